# Register, renew, change and withdraw instances of one service, here `web`.
service "web" {
  policy = "write"
}
