site "red" {
  subnets = ["10.77.1.0/24", "fd77:1::/64"]
  node "red-1" {
    public_key = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo="
    address    = ["10.77.1.1", "fd77:1::1"]
    sibling_endpoint = "10.77.1.251:4500"
  }
  node "red-2" {
    public_key = "jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc="
    address    = "10.77.1.2"
    sibling_endpoint = "[fd77:1::252]:4500"
  }
  pair {
    vip        = ["192.168.1.10/24"]
    heartbeat  = "100ms"
    dead_after = "300ms"
  }
}

site "gray" {
  subnets = ["10.77.2.0/24", "fd77:2::/64"]
  node "gray-1" {
    public_key = "6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4="
    address    = "10.77.2.1"
    endpoint   = "[2001:db8::10]:51820"
  }
}
link "red" "gray" {
  initiator = "red"
  keepalive = "20s"
}

policy {
  rule "replication" {
    from  = ["gray", "gray-1"]
    to    = ["10.77.1.10", "fd77:1::/80"]
    ports = ["tcp/5432", "tcp/5000-5010", "udp/53", "icmp", "tcp", "udp", "any"]
    mode  = "relay"
  }
}

local {
  state_dir   = "/srv/gw"
  socket      = "gw.sock"
  lan         = "eth0"
  listen_port = 4500
  tun {
    name    = "tun7"
    mtu     = 1280
    driver  = "water"
    persist = true
    congctl = "bbr"
  }
  status { listen = "127.0.0.1:9770" }
  log {
    level = "debug"
    json  = true
  }
  check = true
  capture { memory = 16 }
  limits {
    flows     = 1000
    relays    = 20
    trunks    = 8
    fragments = 1
    records   = 2
    audit     = 3
  }
  answers = "full"
}
