//! What it says of itself: metrics and states.

use std::sync::Mutex;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use super::*;

/// Sums everything under `name{label=value,…}`.
#[derive(Debug, Clone, Default)]
struct Sums(Arc<Mutex<std::collections::BTreeMap<String, f64>>>);

struct Sum(Sums, String);

impl Sum {
    fn add(&self, value: f64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
    }
}

impl CounterFn for Sum {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }
    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Sum {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, _: f64) {}
}

impl HistogramFn for Sum {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Sums {
    fn sum(&self, key: &Key) -> Arc<Sum> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        Arc::new(Sum(
            self.clone(),
            format!("{}{{{}}}", key.name(), labels.join(",")),
        ))
    }

    fn get(&self, name: &str) -> f64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

impl Recorder for Sums {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.sum(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.sum(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.sum(key))
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_follow_what_is_registered() {
    const REGISTERED: &str = "registered_services_total{backend=fake,datacenter=}";
    let sums = Sums::default();
    let _recorder = metrics::set_default_local_recorder(&sums);
    let near = |name: &str, value: f64| (sums.get(name) - value).abs() < 0.01;
    let fake = Fake::single();
    fake.state().latency = Duration::from_millis(500);
    let registrar = registrar(&fake);
    registrar.register(registration("a")).await.unwrap();
    registrar.register(registration("b")).await.unwrap();
    assert!(near(REGISTERED, 2.0));
    assert!(near("service_registration_duration{backend=fake}", 1.0));

    fake.amnesia();
    fake.fault(Op::Register, 1000, Fault::Refuse(ErrorKind::Unavailable));
    eventually(TTL, "lost", || near(REGISTERED, 0.0)).await;
    fake.heal();
    eventually(TTL, "registered again", || near(REGISTERED, 2.0)).await;
    assert!(near("discovery_reregistrations_total{backend=fake}", 2.0));

    registrar.register(registration("b")).await.unwrap();
    assert!(near(REGISTERED, 2.0), "a replacement is no addition");
    registrar.deregister(&api(), &id("a")).await.unwrap();
    assert!(near(REGISTERED, 1.0));
    registrar.shutdown(secs(5)).await.unwrap();
    assert!(near(REGISTERED, 0.0));
}

#[tokio::test(start_paused = true)]
async fn states_tell_how_each_registration_stands() {
    let fake = Fake::single();
    let registrar = registrar(&fake);
    fake.state().latency = secs(1);
    let first = registrar.register(registration("a"));
    let look = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(phase(&registrar), RegistrationPhase::Registering);
    };
    tokio::join!(first, look).0.unwrap();
    let state = registrar.states().remove(0);
    assert_eq!(state.phase, RegistrationPhase::Registered);
    assert_eq!(state.key.to_string(), "fake/api/a");
    assert_eq!(state.health.status, Status::Passing);
    assert_eq!(state.ttl, Some(TTL));
    assert_eq!(state.confirmed, Some(Duration::ZERO));
    assert!(state.last_error.is_none());

    fake.outage(ErrorKind::Unavailable);
    eventually(TTL, "trouble", || {
        phase(&registrar) == RegistrationPhase::Renewing
    })
    .await;
    eventually(TTL, "lost", || phase(&registrar) == RegistrationPhase::Lost).await;
    let state = registrar.states().remove(0);
    assert!(state.confirmed.unwrap() > TTL);
    let error = state.last_error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        (error.backend(), error.operation()),
        (Some("fake"), Some("renew"))
    );
}
