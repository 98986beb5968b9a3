mod servers;
fn main() {}
