"""What `fanout dev watch` is made of besides the live log: its session, its keys, its web process, its reloads."""
