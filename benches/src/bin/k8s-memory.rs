//! Tells the bytes of heap that a view, or a reflector's store, of a large service holds; `discovery-bench` starts it.

use std::env;

fn main() {
    let contender = env::args().nth(1).expect("a contender");
    let mut weighed = None;
    let counted =
        allocation_counter::measure(|| weighed = Some(discovery_bench::k8s::memory::fill(&contender)));
    println!("{}", counted.bytes_current);
    drop(weighed);
}
