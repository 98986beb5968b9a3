//! The way to the agent broken for a while, each time longer than a TTL: nothing is lost, and all is well again after it.

use std::time::Duration;

use discovery_core::{Query, Status};
use discovery_testkit::proxy::{Close, Direction, Flow, http::Rule};

use crate::support::{
    LONG, PATIENCE, Setup, TTL, Views, Way, brisk, client, deregister, direct, numbered, register, sees,
    turns,
};

/// What will not get better by itself is tried again after half a minute.
const SLOWLY: Duration = Duration::from_secs(100);

/// Which requests a fault breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Everything,
    /// Answers to reads: heartbeats reach the agent, whatever comes back.
    Answers,
}

/// A view and a registration over a way that is broken for longer than its TTL, while the truth changes.
async fn outlives(setup: Setup, breaks: Breaks, patience: Duration, break_way: impl AsyncFn(&Way)) {
    let consul = setup.started().await;
    let (truth, way) = (direct(&consul), Way::to(&consul));
    let client = client(brisk(way.tcp.addr()));
    register(&truth, "db", &[1, 2]).await;
    client.register(numbered("web", 80, TTL)).await.unwrap();
    turns(&truth, "web", Status::Passing, PATIENCE).await;
    let mut db = Views::of(&client, &Query::service("db").unwrap(), &[1, 2]).await;

    break_way(&way).await;
    db.stale(&[1, 2]).await;
    let picked = db.service.acquire().expect("picks go on");
    drop(picked);
    let meanwhile = async {
        let status = match breaks {
            Breaks::Everything => Status::Critical,
            Breaks::Answers => Status::Passing,
        };
        turns(&truth, "web", status, PATIENCE).await;
        deregister(&consul, "db", 2).await;
        truth.registry.register(&numbered("db", 3, LONG)).await.unwrap();
        sees(&truth, "db", &[1, 3]).await;
        sees(&truth, "web", &[80]).await;
    };
    db.keeps(&[1, 2], meanwhile).await;

    way.heal();
    db.live(&[1, 3], patience).await;
    turns(&truth, "web", Status::Passing, patience).await;
    client.shutdown(PATIENCE).await.unwrap();
    assert_eq!(consul.agent_services().await.unwrap().get("web-80"), None);
    assert_eq!(
        consul.get("/v1/agent/checks").await.unwrap().get("web-80:ttl"),
        None
    );
}

/// Every answer is this one.
async fn answers(setup: Setup, status: u16, text: &'static str, patience: Duration) {
    outlives(setup, Breaks::Everything, patience, async |way| {
        way.http.rule(Rule::any("*").reply(status, text));
    })
    .await;
}

pub(crate) async fn answers_of_500(setup: Setup) {
    answers(setup, 500, "rpc error making call: No cluster leader", PATIENCE).await;
}

pub(crate) async fn answers_of_403(setup: Setup) {
    answers(setup, 403, "Permission denied", SLOWLY).await;
}

pub(crate) async fn answers_of_429(setup: Setup) {
    answers(
        setup,
        429,
        "Your IP is issuing too many concurrent connections",
        PATIENCE,
    )
    .await;
}

/// A page of some gateway with the status of a success: it must not pass for an empty list.
pub(crate) async fn pages_of_html(setup: Setup) {
    outlives(setup, Breaks::Answers, PATIENCE, async |way| {
        way.http
            .rule(Rule::get("*").reply(200, "<html><body>Please sign in.</body></html>"));
    })
    .await;
}

pub(crate) async fn random_bytes(setup: Setup) {
    outlives(setup, Breaks::Answers, PATIENCE, async |way| {
        way.tcp.flow(Direction::Down, Flow::Garbage);
    })
    .await;
}

pub(crate) async fn a_stall(setup: Setup) {
    outlives(setup, Breaks::Everything, PATIENCE, async |way| {
        way.tcp.flow_both(Flow::Stall);
    })
    .await;
}

pub(crate) async fn connections_refused(setup: Setup) {
    outlives(setup, Breaks::Everything, PATIENCE, async |way| {
        way.tcp.refuse();
        way.tcp.cut(Close::Reset).await;
    })
    .await;
}

pub(crate) async fn a_body_cut_short(setup: Setup) {
    outlives(setup, Breaks::Answers, PATIENCE, cut_body(Close::Fin)).await;
}

pub(crate) async fn a_body_reset(setup: Setup) {
    outlives(setup, Breaks::Answers, PATIENCE, cut_body(Close::Reset)).await;
}

/// In the middle of the first instance.
fn cut_body(close: Close) -> impl AsyncFn(&Way) {
    async move |way: &Way| way.tcp.flow(Direction::Down, Flow::CutBody { after: 40, close })
}
