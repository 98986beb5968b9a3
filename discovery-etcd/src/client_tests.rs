use super::*;

#[tokio::test]
async fn e_37_a_member_is_left_once_however_many_complain() {
    let client = Client::new(EtcdConfig::at(["a:1", "b:1", "c:1"])).unwrap();
    client.leave(0);
    client.leave(0);
    assert_eq!(client.current(), 1);
    client.leave(1);
    client.leave(2);
    assert_eq!(client.current(), 0);
}

/// Nobody listens at any of these addresses; nothing was sent, so that even a write tries all of them.
#[tokio::test]
async fn e_28_what_was_never_sent_is_tried_on_every_member() {
    let closed = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let client = Client::new(EtcdConfig::at([closed(), closed(), closed()])).unwrap();
    let tries = AtomicUsize::new(0);
    let put = client.call(Kind::Write, |client| {
        tries.fetch_add(1, Ordering::Relaxed);
        async move { client.kv_client().put("key", "value", None).await }
    });
    let failed = put.await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed:?}");
    assert_eq!(tries.load(Ordering::Relaxed), 3);
}

#[test]
fn a_6_nothing_shows_a_secret() {
    let client = Client::new(EtcdConfig::default().user("me", "s3ntinel")).unwrap();
    assert!(!format!("{client:?} {:?} {:?}", client.config(), client.0.auth).contains("s3ntinel"));
}
