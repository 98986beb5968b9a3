use proptest::prelude::*;

use super::*;
use crate::K8sConfig;

proptest! {
    #[test]
    fn every_key_comes_back_and_is_one_a_configmap_takes(key in "\\PC{1,60}|[._/a-f0-9-]{1,40}|[_0-9a-f]{1,30}") {
        let name = encode(&key);
        prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')));
        prop_assert!(!name.starts_with('.'));
        prop_assert_eq!(decode(&name), key);
    }

    #[test]
    fn no_two_keys_share_a_name(one in "[a_5f/]{1,8}", two in "[a_5f/]{1,8}") {
        prop_assert_eq!(encode(&one) == encode(&two), one == two);
    }

    #[test]
    fn what_others_wrote_is_shown_under_a_key_that_finds_it(name in "[-._a-zA-Z0-9]{1,30}") {
        let map = ConfigMap { data: [(name.clone(), String::new())].into(), ..ConfigMap::default() };
        prop_assert_eq!(name_in(&map, &decode(&name)), name);
    }
}

#[test]
fn usual_keys_stay_as_they_are() {
    for key in ["database_url", "app.properties", "a-b"] {
        assert_eq!(encode(key), key);
    }
    assert_eq!(encode("db/url"), "db__2furl");
}

fn values(maps: &[ConfigMapKeys]) -> K8sValues {
    let mut config = K8sConfig::at("127.0.0.1:1");
    config.configmap.configmaps = maps.to_vec();
    K8sValues(Client::new(config).unwrap())
}

#[test]
fn with_several_maps_the_key_names_one() {
    let some = ConfigMapKeys {
        name: "api-config".to_owned(),
        keys: vec!["database_url".to_owned()],
    };
    let two = values(&[some.clone(), ConfigMapKeys::whole("feature-flags")]);
    let key = |text: &str| ConfigKey::new(text).unwrap();
    assert_eq!(two.place(&key("feature-flags/a/b")).unwrap().key, "a/b");
    assert_eq!(
        two.place(&key("api-config/database_url")).unwrap().map.name,
        "api-config"
    );
    let one = values(&[some]);
    assert_eq!(one.place(&key("database_url")).unwrap().key, "database_url");
    for (values, bad) in [
        (&two, "database_url"),
        (&two, "api-config/other"),
        (&one, "other"),
    ] {
        let error = values.place(&key(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        assert!(error.hint().is_some());
    }
    let long = values(&[ConfigMapKeys::whole("m")]);
    assert!(long.place(&key(&"ä".repeat(40))).is_err());
}
