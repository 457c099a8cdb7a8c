//! Docker itself, in the virtual machine of `.ci/vm`: its containers as nodes, what it publishes explained, and its
//! firewall on the way out of a lab. AppArmor confines the containers there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use common::vm::{HOP, Machine};
use common::{text, wait_until};

/// Docker with an image that has busybox alone, and a network outside of the machine.
struct Docker<'a>(&'a Machine);

impl<'a> Docker<'a> {
    fn new(machine: &'a Machine) -> Self {
        machine.sh("systemctl start docker
             if ! docker image inspect box >/dev/null 2>&1; then
                 mkdir -p /run/box/bin
                 cp /usr/bin/busybox /run/box/bin
                 for name in sh ip ping httpd sleep cat; do ln -sf busybox /run/box/bin/$name; done
                 tar -C /run/box -c . | docker import - box
             fi
             ip netns add outside
             ip link add wan type veth peer name eth0 netns outside
             ip address add 203.0.113.1/24 dev wan
             ip link set wan up
             ip -n outside address add 203.0.113.2/24 dev eth0
             ip -n outside link set eth0 up");
        Docker(machine)
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        let script = format!("docker rm --force $(docker ps --all --quiet); {HOP} down --all; ip netns delete outside");
        self.0.output("sh", &["-c", &script]);
    }
}

/// What a container has, as it sees itself.
const SHOW: &str = "docker exec shop sh -c 'ip address; ip route; ip -6 route'";

#[test]
fn a_container_of_docker_is_a_node_also_after_it_has_started_again() {
    let Some(machine) = Machine::new() else { return };
    let _docker = Docker::new(&machine);
    machine.sh("docker run --detach --name shop --network none box sleep 1000");
    let before = machine.sh(SHOW);
    assert!(!before.contains("inet6"), "Docker turns IPv6 off: {before}");
    std::fs::write("/run/site.hop.yaml", "nodes: { client: , router: , web: { loopback: [10.9.0.1, fd00:9::1] } }\nlinks: [client -- router, router -- web:lab0]\n").unwrap();
    machine.hop(&["up", "/run/site.hop.yaml"]);
    for round in 0..2 {
        machine.hop(&["attach", "web", "--container", "shop"]);
        machine.hop(&["ping", "--all"]);
        for address in ["10.9.0.1", "fd00:9::1"] {
            machine.sh(&format!("{HOP} exec client ping -c1 -W5 {address}"));
        }
        // From within: what Docker started is there.
        let client = machine.sh(&format!("{HOP} exec client hostname -I"));
        machine.sh(&format!("docker exec shop ping -c1 -W5 {}", client.split_whitespace().next().unwrap()));
        assert!(machine.sh(&format!("{HOP} up /run/site.hop.yaml")).contains("nothing to change"));
        if round == 0 {
            machine.sh("docker restart --time 0 shop");
            assert!(machine.sh(&format!("{HOP} ls")).contains("container `shop`, which has ended"));
            machine.hop(&["up", "/run/site.hop.yaml"]);
            machine.hop(&["ping", "--all"]);
        }
    }
    machine.hop(&["detach", "web"]);
    assert_eq!(machine.sh(SHOW), before, "something is left in the container");
    assert_eq!(machine.sh("docker exec shop cat /proc/sys/net/ipv6/conf/lo/disable_ipv6"), "1\n");
}

#[test]
fn what_docker_publishes_is_explained() {
    let Some(machine) = Machine::new() else { return };
    let _docker = Docker::new(&machine);
    machine.sh("docker run --detach --name web --publish 8080:80 box httpd -f");
    let why = || {
        let output = machine.output(HOP, &["why", "--ns", "outside", "203.0.113.1:8080/tcp"]);
        (output.status.code(), text(&output.stdout))
    };
    let (status, said) = why();
    assert!(status == Some(0) && said.contains("dnat to 172.17.0.2:80"), "{status:?} {said}");
    // Where Docker wants rules of one's own; the repair is made, and proved.
    machine.sh("iptables -I DOCKER-USER -i wan -p tcp --dport 80 -j DROP");
    let (status, said) = why();
    assert!(status == Some(1) && said.contains("DOCKER-USER"), "{status:?} {said}");
    machine.sh("iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN");
    assert_eq!(why().0, Some(0));
    // Nobody listens within, and Docker's proxy is not who answers.
    machine.sh("docker rm --force web; docker run --detach --name web --publish 8080:80 box sleep 1000");
    let (status, said) = why();
    assert!(status == Some(1) && said.contains("80"), "{status:?} {said}");
}

#[test]
fn what_is_said_of_dockers_firewall_lets_an_uplink_pass() {
    let Some(machine) = Machine::new() else { return };
    let _docker = Docker::new(&machine);
    std::fs::write("/run/out.hop.yaml", "nodes: { gate: { uplink: true }, far: }\nlinks: [gate -- far]\n").unwrap();
    let said = machine.hop(&["up", "/run/out.hop.yaml"]);
    let ping = || machine.output(HOP, &["exec", "out/far", "ping", "-c1", "-W2", "203.0.113.2"]).status.success();
    assert!(!ping(), "Docker's firewall drops it");
    let advice = said.lines().find_map(|line| line.strip_prefix("help: Docker's chain for this: `")).unwrap();
    machine.sh(advice.trim_end_matches('`'));
    wait_until("it passes", ping);
    let again = machine.hop(&["up", "/run/out.hop.yaml"]);
    assert!(!again.contains("firewall"), "{again}");
    machine.hop(&["down", "--wait", "out"]);
    assert!(!machine.sh("ip link; nft list tables").contains("hop"));
}
