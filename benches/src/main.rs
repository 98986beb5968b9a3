//! Runs the races and writes what they found.

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

use discovery_bench::{
    breaker, build, consul, dns, etcd, eureka, fanout,
    harness::{Plan, Report},
    k8s, lookup, pick, publish, strategies,
};

type Race = fn(&Plan, &mut Report);

const RACES: [(&str, Race); 12] = [
    ("pick", pick::run),
    ("strategies", strategies::run),
    ("lookup", lookup::run),
    ("build", build::run),
    ("publish", publish::run),
    ("breaker", breaker::run),
    ("fanout", fanout::run),
    ("consul", consul::run),
    ("etcd", etcd::run),
    ("dns", dns::run),
    ("eureka", eureka::run),
    ("k8s", k8s::run),
];

/// Those that need no server, G1 to G8, under one name.
const BALANCING: (&str, [&str; 6]) = (
    "balancing",
    ["pick", "strategies", "lookup", "build", "publish", "breaker"],
);

struct Args {
    plan: Plan,
    out: Option<PathBuf>,
    only: Vec<OsString>,
}

fn args() -> Result<Args, lexopt::Error> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let mut args = Args {
        plan: Plan::full(),
        out: None,
        only: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("short") => args.plan = Plan::short(),
            Long("out") => args.out = Some(parser.value()?.parse()?),
            Value(name) if name == BALANCING.0 => args.only.extend(BALANCING.1.map(OsString::from)),
            Value(name) if RACES.iter().any(|race| name == race.0) => args.only.push(name),
            other => return Err(other.unexpected()),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!(
                "{error}\nusage: discovery-bench [--short] [--out FILE] [balancing|pick|strategies|lookup|build|publish|breaker|fanout|consul|etcd|dns|eureka|k8s]…"
            );
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    for (name, run) in RACES {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            run(&args.plan, &mut report);
        }
    }
    print!("{}", report.render());
    // Who names a race wants to see it run.
    let code = if args
        .only
        .iter()
        .filter_map(|only| only.to_str())
        .all(|only| report.has_run(only))
    {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    let Some(out) = args.out else {
        return code;
    };
    let written = report.json_lines().map_err(std::io::Error::from);
    match written.and_then(|lines| fs::write(&out, lines)) {
        Ok(()) => code,
        Err(error) => {
            eprintln!("cannot write {}: {error}", out.display());
            ExitCode::FAILURE
        }
    }
}
