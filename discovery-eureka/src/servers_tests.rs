use super::*;
use crate::{address, config::EurekaConfig};

fn servers(near: &[&str], far: &[&str]) -> Servers {
    let mut config = EurekaConfig::at(far.iter().copied());
    config.server.zone = Some("z".to_owned());
    let near = near.iter().map(|url| (*url).into()).collect();
    config.server.zones.insert("z".to_owned(), near);
    Servers::new(address::servers(&config).unwrap())
}

#[tokio::test(start_paused = true)]
async fn u_30_near_servers_first_and_the_one_that_works_stays() {
    let mut firsts = HashSet::new();
    for _ in 0..50 {
        let servers = servers(&["a:1", "b:1"], &["c:1", "d:1"]);
        let candidates = servers.candidates();
        assert_eq!(candidates.len(), 3);
        assert!(
            candidates[..2].iter().all(|i| servers.all[*i].near),
            "{candidates:?}"
        );
        firsts.insert(candidates[0]);
        servers.worked(candidates[2]);
        for _ in 0..10 {
            assert_eq!(servers.candidates()[0], candidates[2]);
        }
        // Until another gets its turn.
        tokio::time::advance(SESSION * 2).await;
        assert!(servers.all[servers.candidates()[0]].near);
    }
    assert_eq!(firsts.len(), 2, "each client has an order of its own");
}

#[tokio::test(start_paused = true)]
async fn u_29_bad_servers_go_last_until_most_are_bad() {
    let servers = servers(&[], &["a:1", "b:1", "c:1", "d:1"]);
    let order = servers.candidates();
    servers.worked(order[0]);
    servers.failed(order[0]);
    assert!(!servers.candidates()[..2].contains(&order[0]));
    servers.failed(order[1]);
    assert_eq!(servers.bad(), 2);
    servers.failed(order[2]);
    // Three of four: they get another chance.
    servers.candidates();
    assert_eq!(servers.bad(), 0);
    // One alone is always asked.
    let one = super::tests::servers(&[], &["a:1"]);
    one.failed(0);
    assert_eq!(one.candidates(), [0]);
}
