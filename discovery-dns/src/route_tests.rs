use super::*;
use crate::testing::n;

fn routes(config: &DnsConfig) -> Routes {
    Routes::new(config).unwrap()
}

fn only(config: &DnsConfig, service: &str) -> Place {
    let places = routes(config).places(service).unwrap();
    assert_eq!(places.len(), 1, "{places:?}");
    places[0].clone()
}

#[test]
fn every_type_of_zone_has_its_question() {
    let at = || DnsConfig::at("127.0.0.1:1");
    let mut cluster = Zone::new("cluster.local", ZoneType::Kubernetes);
    cluster.port_name = Some("http".to_owned());
    let srv = |name: &str| Form::Srv(n(name), None);
    for (zone, form) in [
        (Zone::new("consul", ZoneType::Consul), srv("api.service.consul")),
        (
            Zone::new("svc.test", ZoneType::Srv).protocol("udp"),
            srv("_api._udp.svc.test"),
        ),
        (
            Zone::new("svc.test", ZoneType::DnsSd),
            Form::Instances(n("_api._tcp.svc.test")),
        ),
        (
            Zone::new("svc.test", ZoneType::Address).port(80),
            Form::Address(n("api.svc.test"), 80),
        ),
        (cluster, srv("_http._tcp.api.default.svc.cluster.local")),
        (
            Zone::new("cluster.local", ZoneType::Kubernetes).port(80),
            Form::Address(n("api.default.svc.cluster.local"), 80),
        ),
    ] {
        assert_eq!(only(&at().zone(zone), "api").form, form);
    }
}

#[test]
fn d_1_names_of_consul_are_asked_for_over_tcp() {
    let config = DnsConfig::at("127.0.0.1:1").zone(Zone::new("company.local", ZoneType::Consul));
    for (service, whole, bailiwick) in [
        ("api.service.consul", true, "consul"),
        ("_api._tcp.service.dc2.consul.", true, "consul"),
        ("v2.api.service.other.test", true, "other.test"),
        ("nearest.query.consul", true, "consul"),
        ("api", true, "company.local"),
        ("api.service.company.local", true, "company.local"),
        ("_web._tcp.svc.test", false, "svc.test"),
        ("web.svc.test", false, "svc.test"),
        ("myservice.test", false, "test"),
    ] {
        let place = only(&config, service);
        assert_eq!((place.whole, place.bailiwick), (whole, n(bailiwick)), "{service}");
    }
}

#[test]
fn d_13_nothing_is_put_behind_a_full_name() {
    let mut config = DnsConfig::at("127.0.0.1:1").zone(Zone::new("svc.test", ZoneType::Srv));
    config.search = vec!["example".to_owned()];
    assert_eq!(
        only(&config, "web.example").form,
        Form::Srv(n("web.example"), None)
    );
    assert_eq!(only(&config, "web.").form, Form::Srv(n("web"), None));
    config.ndots = 2;
    assert_eq!(
        only(&config, "a.web.example").form,
        Form::Srv(n("a.web.example"), None)
    );
    let nowhere = routes(&DnsConfig::at("127.0.0.1:1")).places("web").unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::InvalidInput);
    assert!(nowhere.hint().unwrap().contains("zones"));
}

#[test]
fn names_of_fewer_dots_than_ndots_are_looked_for_in_search_domains_first() {
    let mut config = DnsConfig::at("127.0.0.1:1").zone(Zone::new("svc.test", ZoneType::Srv));
    config.search = vec!["one.test".to_owned(), "two.test".to_owned()];
    let forms = |config: &DnsConfig, service: &str| {
        let places = routes(config).places(service).unwrap();
        places.into_iter().map(|place| place.form).collect::<Vec<_>>()
    };
    let srv = |names: &[&str]| {
        names
            .iter()
            .map(|name| Form::Srv(n(name), None))
            .collect::<Vec<_>>()
    };
    let short = srv(&["_web._tcp.svc.test", "web.one.test", "web.two.test"]);
    assert_eq!(forms(&config, "web"), short);
    assert_eq!(forms(&config, "web.eu"), srv(&["web.eu"]));
    config.ndots = 2;
    assert_eq!(forms(&config, "web"), short);
    let dotted = srv(&["web.eu.one.test", "web.eu.two.test", "web.eu"]);
    assert_eq!(forms(&config, "web.eu"), dotted);
    assert_eq!(forms(&config, "web.eu."), srv(&["web.eu"]));
    assert_eq!(forms(&config, "v2.web.eu"), srv(&["v2.web.eu"]));
}

#[test]
fn patterns_say_who_is_asked() {
    let mut config = DnsConfig::at("127.0.0.1:1");
    config
        .resolvers
        .insert("eu".to_owned(), crate::config::Resolver::at(["127.0.0.2:53"]));
    config.resolution = [
        ("*.eu.test", "eu"),
        ("*.service.consul", "consul"),
        ("*.svc.cluster.local", "kubernetes"),
    ]
    .map(|(pattern, resolver)| crate::config::Resolution::new(pattern, resolver))
    .to_vec();
    let routes = routes(&config);
    for (name, server) in [
        ("a.eu.test", "127.0.0.2:53"),
        ("eu.test", "127.0.0.1:1"),
        ("api.service.consul", "127.0.0.1:8600"),
        ("api.default.svc.cluster.local", "127.0.0.1:1"),
        ("elsewhere.test", "127.0.0.1:1"),
    ] {
        assert_eq!(routes.client(&n(name)).display(), server, "{name}");
    }
    config
        .resolution
        .push(crate::config::Resolution::new("*.x", "nobody"));
    let error = Routes::new(&config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(
        error.hint().unwrap().contains("eu, consul, kubernetes"),
        "{error:?}"
    );
}

/// As the specification has it: no server is given, Consul's names go to its agent and Kubernetes' to whom this system asks.
#[test]
fn zones_of_consul_need_no_server() {
    let mut config = DnsConfig::default().zone(Zone::new("company.local", ZoneType::Consul));
    config.resolution = [
        ("*.service.consul", "consul"),
        ("*.default.svc.cluster.local", "kubernetes"),
    ]
    .map(|(pattern, resolver)| crate::config::Resolution::new(pattern, resolver))
    .to_vec();
    let routes = routes(&config);
    for name in [
        "api.service.consul",
        "api.service.company.local",
        "elsewhere.test",
    ] {
        assert_eq!(routes.client(&n(name)).display(), "127.0.0.1:8600", "{name}");
    }
    let ours = Client::new(
        &system().unwrap(),
        Transport::Auto,
        &TlsConfig::default(),
        config.timeout,
    );
    let kubernetes = routes.client(&n("api.default.svc.cluster.local")).display();
    assert_eq!(kubernetes, ours.unwrap().display());
}

#[test]
fn the_systems_list_is_read_as_it_is() {
    let servers =
        listed(b"# here\nnameserver 192.0.2.53\nsearch a.test\nnameserver fe80::1%eth0\noptions ndots:5\n")
            .unwrap();
    assert_eq!(servers, ["192.0.2.53", "fe80::1"]);
    assert_eq!(
        listed(b"search a.test\n").unwrap(),
        [LOCAL],
        "as resolv.conf(5) has it"
    );
    assert_eq!(
        listed(b"nameserver \xff").unwrap_err().kind(),
        ErrorKind::ConfigInvalid
    );
}
