//! What a large service weighs: our view beside a reflector's store, each in a process of its own that counts its heap.

use std::{env, process::Command};

use futures::{StreamExt, stream};
use tokio::runtime::Runtime;

use super::{
    OURS, REFLECTOR,
    fixture::{FULL, Fixture, Place},
};
use crate::harness::{Cell, Report, Table, clock};

const SLICES: usize = 300;
const ENDPOINTS: usize = SLICES * FULL;
const SERVICE: &str = "large";
/// The fewest that the table takes; they hardly differ.
const SAMPLES: usize = 3;

/// Races them.
pub(super) fn run(fixture: &Fixture, report: &mut Report) {
    let ticks = clock::Ticks::now();
    fixture.runtime.block_on(async {
        let client = fixture.place.kube();
        stream::iter(0..SLICES)
            .for_each_concurrent(8, |n| Fixture::create(&client, SERVICE, n))
            .await;
    });
    let cells = [REFLECTOR, OURS].map(|contender| {
        let mut cell = Cell::new(contender, ENDPOINTS, 1);
        let weighed = (0..SAMPLES).map(|_| Some(weigh(&fixture.place, contender)));
        cell.samples.extend(weighed);
        cell
    });
    let table = Table::new("k8s memory", "MiB", REFLECTOR, cells.into(), ticks);
    report.table(table);
}

/// Starts `k8s-memory`, which lies beside this program, and takes the mebibytes it tells.
fn weigh(place: &Place, contender: &str) -> f64 {
    let program = env::current_exe().expect("a path").with_file_name("k8s-memory");
    let output = Command::new(program)
        .arg(contender)
        .env("URL", &place.url)
        .env("CA", &place.ca)
        .env("TOKEN", &place.token)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.trim().parse::<f64>();
    told.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))) / f64::from(1 << 20)
}

/// What is weighed; it lives as long as this.
#[expect(missing_debug_implementations, reason = "what it keeps is of no one type")]
pub struct Weighed {
    _kept: Box<dyn Send>,
    _runtime: Runtime,
}

/// Fills the contender that `k8s-memory` is asked for, on this thread alone.
pub fn fill(contender: &str) -> Weighed {
    let var = |name| env::var(name).expect("set by who starts it");
    let place = Place {
        url: var("URL"),
        ca: var("CA").into(),
        token: var("TOKEN"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let kept: Box<dyn Send> = runtime.block_on(async {
        if contender == OURS {
            let service = place.service(SERVICE).await;
            let mut subscription = service.subscribe();
            let seen = subscription.next().await.expect("a view");
            assert_eq!(seen.instances.len(), ENDPOINTS);
            drop((seen, subscription));
            Box::new(service) as Box<dyn Send>
        } else {
            let (store, mut stream) = place.reflector(SERVICE);
            while store.len() < SLICES {
                stream.next().await.expect("events").expect("no failure");
            }
            Box::new((store, stream))
        }
    });
    Weighed {
        _kept: kept,
        _runtime: runtime,
    }
}
