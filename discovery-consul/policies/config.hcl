# Read, write and watch the values under one prefix, here `app/`.
key_prefix "app/" {
  policy = "write"
}
