site "red" {
  subnets = ["10.77.1.0/24"]
  node "red-1" {
    public_key = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo="
    address    = "10.77.1.1"
    sibling_endpoint = "192.168.1.1:51820"
  }
  node "red-2" {
    public_key = "jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc="
    address    = "10.77.1.2"
    endpoint   = "198.51.100.2:51820"
    sibling_endpoint = "red-2.lan:51820"
  }
  pair {
    vip             = "192.168.1.10/24"
    on_active       = ["/usr/local/bin/move-address", "--to=me", "\"$${x}\" %%{ y } 5 % \\ ü"]
    command_timeout = "5s"
    wake            = false
  }
}
site "gray" {
  subnets = ["10.77.2.0/24", "fd77:2::/64"]
  node "gray-1" {
    public_key = "6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4="
    address    = ["10.77.2.1", "fd77:2::1"]
    endpoint   = "203.0.113.10:51820"
  }
}
site "green" {
  subnets = ["10.77.3.0/24"]
  node "green-1" {
    public_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
    address    = "10.77.3.1"
    endpoint   = "gw.green.example:51820"
  }
}
link "red" "gray" {
  initiator = "red"
}
link "red" "green" {
  initiator = "red"
  keepalive = "25s"
}
policy {
  rule "inside" { # between red and green only
    from  = ["red", "green"]
    to    = ["red", "green"]
    ports = ["tcp"]
  }
  rule "replication" {
    from  = ["red", "green", "gray"]
    to    = ["gray", "10.77.1.10"]
    ports = ["tcp/5432"]
    mode  = "relay"
  }
}
local {
  private_key_file = "/etc/gw/red.key"
  lan              = "eth7"
}
