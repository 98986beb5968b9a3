use serde_json::json;

use super::*;

fn base() -> discovery_core::RegistrationBuilder {
    Registration::builder("web", "10.0.0.5", 8080).id("web-1")
}

fn wire_of(registration: &Registration) -> serde_json::Value {
    let checks = of(
        registration,
        Some(Duration::from_secs(30)),
        &ConsulConfig::default(),
    )
    .unwrap();
    serde_json::to_value(checks).unwrap()
}

#[test]
fn c_24_c_26_c_27_checks_have_explicit_ids_and_a_status() {
    let registration = base().check(Check::tcp("10.0.0.5:8080")).build().unwrap();
    assert_eq!(
        wire_of(&registration),
        json!([
            { "CheckID": "web-1:ttl", "Name": "heartbeat", "TTL": "30000ms", "Status": "passing",
              "DeregisterCriticalServiceAfter": "600000ms" },
            { "CheckID": "web-1:check-tcp", "Name": "tcp", "TCP": "10.0.0.5:8080", "Interval": "10000ms",
              "Timeout": "5000ms", "Status": "passing" },
        ])
    );
    // Two instances of an agent never share a check, whatever their ids and the names of their checks.
    assert_ne!(ttl_check("a:check-b"), agent_check("a", "b"));
    let odd = base()
        .check(Check::tcp("10.0.0.5:8080").named("b:ttl"))
        .build()
        .unwrap();
    let error = of(&odd, None, &ConsulConfig::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// C-26, C-27, H-2: scripts and gRPC have explicit ids as well, and each field only where it says something.
#[test]
fn c_26_scripts_and_grpc_are_told_as_the_agent_reads_them() {
    let registration = base()
        .check(Check::script(["/usr/bin/pg_isready", "-h", "db 1"]).timeout(Duration::from_secs(10)))
        .check(Check::grpc("10.0.0.5:9000/api.v1.Api", true).every(Duration::from_secs(30)))
        .check(Check::grpc("10.0.0.5:9000", false).named("plain"))
        .build()
        .unwrap();
    let checks = wire_of(&registration);
    assert_eq!(
        checks[1],
        json!({ "CheckID": "web-1:check-script", "Name": "script", "Args": ["/usr/bin/pg_isready", "-h", "db 1"],
            "Interval": "10000ms", "Timeout": "10000ms", "Status": "passing" })
    );
    assert_eq!(
        checks[2],
        json!({ "CheckID": "web-1:check-grpc", "Name": "grpc", "GRPC": "10.0.0.5:9000/api.v1.Api", "GRPCUseTLS": true,
            "Interval": "30000ms", "Timeout": "5000ms", "Status": "passing" })
    );
    assert_eq!(
        checks[3],
        json!({ "CheckID": "web-1:check-plain", "Name": "plain", "GRPC": "10.0.0.5:9000",
            "Interval": "10000ms", "Timeout": "5000ms", "Status": "passing" })
    );
}

#[test]
fn c_31_a_minute_is_the_least_before_deregistration() {
    let mut config = ConsulConfig::default();
    config.health_checks.deregister_after = Duration::from_secs(30);
    let registration = base().build().unwrap();
    let after = |config: &ConsulConfig| {
        let checks = of(&registration, Some(Duration::from_secs(30)), config).unwrap();
        checks[0].deregister_critical_service_after.clone()
    };
    assert_eq!(after(&config).as_deref(), Some("60000ms"));
    config.health_checks.deregister_after = Duration::ZERO;
    assert_eq!(after(&config), None);
}

#[test]
fn draining_is_part_of_the_registration() {
    let mut registration = base().build().unwrap();
    registration.health = HealthReport::default().with_draining(true).with_output("upgrade");
    let checks = wire_of(&registration);
    assert_eq!(checks[1]["CheckID"], "_service_maintenance:web-1");
    assert_eq!(
        (&checks[1]["Status"], &checks[1]["Notes"]),
        (&json!("critical"), &json!("upgrade"))
    );
}

#[test]
fn what_somebody_else_reports_is_a_check_beside_all_others() {
    let report = HealthReport::new(Status::Warning).with_output("so-so");
    let check = reported("api-1", &report, Duration::from_secs(86_400));
    assert_eq!(
        serde_json::to_value(&check).unwrap(),
        json!({
            "ID": "api-1:reported", "Name": "reported", "ServiceID": "api-1", "TTL": "86400000ms", "Status": "warning",
        })
    );
}
