//! Interfaces of hardware, in the virtual machine of `.ci/vm`, whose network the tests have to themselves: two network
//! cards at one wire, and radios that the kernel plays (`mac80211_hwsim`). systemd-udevd runs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use common::vm::{CARDS, HOP, Machine};
use common::wait_until;

/// What a test leaves to the next one: no lab, no namespace, and what is of the machine is here.
struct Tidy<'a>(&'a Machine);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let machine = self.0;
        let script = format!(
            "{HOP} down --all; {HOP} ns delete --all --wait; ip -all netns delete; ip link delete v5; modprobe -r mac80211_hwsim"
        );
        machine.output("sh", &["-c", &script]);
        for card in 0..CARDS.len() {
            wait_until("a card is back", || !machine.card(card).is_empty());
            let dev = machine.card(card);
            machine.output("sh", &["-c", &format!("ip address flush dev {dev}; ip link set {dev} down")]);
        }
    }
}

/// The one card with what a machine has, and the name of it; the other, at the same wire, is outside.
fn wired(machine: &Machine) -> String {
    let (near, far) = (machine.card(0), machine.card(1));
    machine.sh(&format!(
        "ip netns add outside; ip -n outside link set lo up; ip link set {far} netns outside; ip -n outside link set {far} up
         ip -n outside address add 192.0.2.1/24 dev {far}; ip -n outside address add 2001:db8::1/64 dev {far} nodad
         ip address add 192.0.2.7/24 dev {near}; ip address add 2001:db8::7/64 dev {near} nodad; ip link set {near} up
         ip route add 198.51.100.0/24 via 192.0.2.1; ip -6 route add 2001:db8:1::/48 via 2001:db8::1
         ip neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev {near} nud permanent"
    ));
    wait_until("the cards reach each other", || {
        machine.outside_reaches("192.0.2.7") && machine.outside_reaches("2001:db8::7")
    });
    near
}

#[test]
fn a_card_moves_with_what_it_has_and_comes_back_as_it_was() {
    let Some(machine) = Machine::new() else { return };
    let _tidy = Tidy(&machine);
    let dev = wired(&machine);
    let before = machine.state(&dev);
    for part in ["192.0.2.7/24", "2001:db8::7/64", "198.51.100.0/24", "2001:db8:1::/48", "192.0.2.99"] {
        assert!(before.contains(part), "{before}");
    }
    machine.hop(&["ns", "add", "blue"]);
    assert_eq!(machine.hop(&["ns", "move", &dev, "blue"]), "");
    assert!(!machine.is_here(&dev));
    wait_until("it answers where it is", || {
        machine.outside_reaches("192.0.2.7") && machine.outside_reaches("2001:db8::7")
    });
    machine.hop(&["ns", "move", &dev, "host", "--from", "blue"]);
    machine.is_again(&dev, &before);
    // With the namespace that it is in.
    machine.hop(&["ns", "move", &dev, "blue"]);
    assert!(machine.hop(&["ns", "delete", "blue"]).contains(&format!("{dev} is back")));
    machine.is_again(&dev, &before);
    wait_until("it answers here again", || {
        machine.outside_reaches("192.0.2.7") && machine.outside_reaches("2001:db8::7")
    });
}

#[test]
fn what_stands_on_a_card_loses_nothing_when_it_moves() {
    let Some(machine) = Machine::new() else { return };
    let _tidy = Tidy(&machine);
    let dev = wired(&machine);
    machine.sh(&format!(
        "modprobe 8021q; ip link add link {dev} name v5 type vlan id 5; ip link set v5 up
         ip address add 10.5.0.1/24 dev v5; ip address add fd05::1/64 dev v5 nodad
         ip link add link v5 name v5.6 type vlan id 6; ip link set v5.6 up; ip address add 10.6.0.1/24 dev v5.6
         ip route add 10.55.0.0/16 via 10.5.0.9; ip -6 route add fd55::/48 via fd05::9; ip route add 10.66.0.0/16 via 10.6.0.9"
    ));
    let state = || {
        let found = machine.sh(
            "for dev in v5 v5.6; do ip -br address show dev $dev scope global; ip route show dev $dev; ip -6 route show dev $dev; done",
        );
        // Without what it stands on, which is called by its number while it is elsewhere, and whether there is a signal by now.
        let word = |word: &str| word.split_once('@').map_or(word, |(dev, _)| dev).to_owned();
        let line = |line: &str| {
            line.split_whitespace()
                .filter(|word| !["linkdown", "UP", "UNKNOWN", "LOWERLAYERDOWN"].contains(word))
                .map(word)
                .collect::<Vec<_>>()
                .join(" ")
        };
        found.lines().filter(|line| !line.contains("fe80::")).map(line).collect::<Vec<_>>()
    };
    let before = state();
    assert!(before.iter().any(|line| line.contains("fd05::1/64")) && before.len() >= 8, "{before:?}");
    machine.hop(&["ns", "add", "blue"]);
    assert_eq!(machine.hop(&["ns", "move", &dev, "blue"]), "");
    assert_eq!(state(), before, "where it has stayed");
    machine.hop(&["ns", "move", &dev, "host", "--from", "blue"]);
    assert_eq!(state(), before, "when the card is back");
    machine.hop(&["ns", "move", &dev, "blue"]);
    machine.hop(&["ns", "delete", "blue"]);
    assert_eq!(state(), before, "when the namespace is gone");
    // Lent to a node, it is the same.
    let lab = format!(
        "nodes:\n  web: {{ interfaces: {dev}, addresses: {{ {dev}: 192.0.2.8/24 }} }}\n  db:\nlinks: [web -- db]\n"
    );
    std::fs::write("/run/web.hop.yaml", &lab).unwrap();
    machine.hop(&["up", "/run/web.hop.yaml"]);
    assert_eq!(state(), before, "while the card is lent");
    std::fs::write("/run/web.hop.yaml", "nodes: { web: , db: }\nlinks: [web -- db]\n").unwrap();
    machine.hop(&["up", "/run/web.hop.yaml"]);
    assert_eq!(state(), before, "when the card is given back");
    std::fs::write("/run/web.hop.yaml", &lab).unwrap();
    machine.hop(&["up", "/run/web.hop.yaml"]);
    machine.hop(&["down", "web"]);
    assert_eq!(state(), before, "when the lab is down");
    machine.sh("ip link delete v5.6; ip link delete v5; modprobe -r 8021q");
}

#[test]
fn a_name_of_the_users_choice_is_not_changed_by_udev_on_the_way() {
    let Some(machine) = Machine::new() else { return };
    let _tidy = Tidy(&machine);
    let dev = machine.card(0);
    machine.sh(&format!("ip link set {dev} name wan0; udevadm settle"));
    machine.hop(&["ns", "add", "blue"]);
    machine.hop(&["ns", "move", "wan0", "blue"]);
    machine.hop(&["ns", "delete", "blue"]);
    assert_eq!(machine.card(0), "wan0");
    // The kernel brings it back: nobody has told hop.
    machine.hop(&["ns", "add", "blue"]);
    machine.hop(&["ns", "move", "wan0", "blue"]);
    machine.sh("ip netns delete blue");
    wait_until("the kernel has brought it back", || !machine.card(0).is_empty());
    assert_eq!(machine.card(0), "wan0");
    // As it is called when the machine starts again; udev has kept that as a second name.
    machine.sh(&format!(
        "ip link property del dev wan0 altname {dev} 2>/dev/null || true; ip link set wan0 name {dev}; udevadm settle"
    ));
    assert_eq!(machine.card(0), dev);
}

fn file(machine: &Machine, content: &str) -> &'static str {
    machine.sh(&format!("printf '%s' '{content}' >/run/web.hop.yaml"));
    "/run/web.hop.yaml"
}

#[test]
fn a_lab_is_lent_a_card_and_gives_it_back() {
    let Some(machine) = Machine::new() else { return };
    let _tidy = Tidy(&machine);
    let dev = wired(&machine);
    let before = machine.state(&dev);
    let lab = format!(
        "nodes:\n  web:\n    interfaces: [{dev}]\n    addresses: {{ {dev}: 192.0.2.10/24 }}\n    routes: default via 192.0.2.1\n  db:\nlinks: [web -- db]\n"
    );
    let path = file(&machine, &lab);
    machine.hop(&["up", path]);
    wait_until("the node answers", || machine.outside_reaches("192.0.2.10"));
    assert!(!machine.is_here(&dev) && !machine.outside_reaches("192.0.2.7"));
    machine.hop(&["down", "web"]);
    machine.is_again(&dev, &before);
    wait_until("the machine answers", || machine.outside_reaches("192.0.2.7"));
    // Killed: the kernel brings it back, bare, and the next command knows what it had.
    for next in ["down", "up"] {
        machine.hop(&["up", path]);
        machine.kill_keeper();
        wait_until("the kernel has brought it back", || machine.is_here(&dev));
        match next {
            "down" => machine.hop(&["down", "web"]),
            _ => machine.hop(&["up", path]) + &machine.hop(&["down", "web"]),
        };
        machine.is_again(&dev, &before);
    }
}

/// Radios; each has an interface, wlan0 and so on.
fn radios(machine: &Machine, count: usize) {
    machine.sh(&format!("modprobe mac80211_hwsim radios={count}; udevadm settle"));
}

/// One radio with two interfaces, wlan0 and wlan0b, and what they have.
fn radio_of_two(machine: &Machine) -> [String; 2] {
    radios(machine, 1);
    machine.sh("iw dev wlan0 interface add wlan0b type managed; udevadm settle
        ip address add 203.0.113.1/24 dev wlan0; ip address add 203.0.113.129/25 dev wlan0b; ip link set wlan0 up");
    ["wlan0", "wlan0b"].map(|dev| machine.state(dev))
}

/// Joins an interface to a network of the air, without an access point. Its identity is given: two that choose one each
/// have to find together first, which takes as long as it takes.
fn join(machine: &Machine, inside: &str, dev: &str) {
    machine.sh(&format!(
        "{inside} ip link set {dev} down; {inside} iw dev {dev} set type ibss; {inside} ip link set {dev} up
        {inside} iw dev {dev} ibss join hopyard 2412 fixed-freq 02:00:00:00:00:aa"
    ));
}

#[test]
fn a_wireless_interface_moves_with_its_radio_and_what_it_has() {
    let Some(machine) = Machine::new() else { return };
    let _tidy = Tidy(&machine);
    radios(&machine, 2);
    machine.sh(
        "ip address add 203.0.113.1/24 dev wlan0; ip link set wlan0 up; ip route add 198.51.100.0/24 via 203.0.113.9
        ip address add 203.0.113.2/24 dev wlan1",
    );
    join(&machine, "", "wlan1");
    let before = machine.state("wlan0");
    assert!(before.contains("203.0.113.1/24") && before.contains("198.51.100.0/24"), "{before}");
    machine.hop(&["ns", "add", "air"]);
    assert_eq!(machine.hop(&["ns", "move", "wlan0", "air"]), "");
    assert!(!machine.is_here("wlan0"));
    join(&machine, "ip netns exec air", "wlan0");
    wait_until("it is heard from where it is", || {
        machine.output("ip", &["netns", "exec", "air", "ping", "-c1", "-W1", "203.0.113.2"]).status.success()
    });
    machine.sh("ip netns exec air iw dev wlan0 ibss leave; ip netns exec air ip link set wlan0 down; ip netns exec air iw dev wlan0 set type managed");
    assert!(machine.hop(&["ns", "delete", "air"]).contains("wlan0 is back"));
    machine.is_again("wlan0", &before);
}

#[test]
fn all_interfaces_of_a_radio_move_together() {
    let Some(machine) = Machine::new() else { return };
    let _tidy = Tidy(&machine);
    let before = radio_of_two(&machine);
    machine.hop(&["ns", "add", "air"]);
    // Nobody is renamed in silence.
    machine.sh("ip -n air link add wlan0 type veth peer name other");
    let said = machine.fails(&["ns", "move", "wlan0b", "air"]);
    assert!(said.contains("there is another interface `wlan0` in `air`"), "{said}");
    machine.sh("ip -n air link delete wlan0");
    let said = machine.hop(&["ns", "move", "wlan0b", "air"]);
    assert!(said.contains("wlan0 has moved along: it is of the same radio"), "{said}");
    assert!(!machine.is_here("wlan0") && !machine.is_here("wlan0b"));
    let there = machine.sh("ip -n air -br address");
    assert!(there.contains("203.0.113.1/24") && there.contains("203.0.113.129/25"), "{there}");
    let said = machine.hop(&["ns", "delete", "air"]);
    assert!(said.contains("wlan0 is back") && said.contains("wlan0b is back"), "{said}");
    machine.is_again("wlan0", &before[0]);
    machine.is_again("wlan0b", &before[1]);
    assert!(machine.sh("ls -A /run/hopyard 2>/dev/null || true").is_empty());
}

#[test]
fn a_lab_is_lent_a_radio_whole() {
    let Some(machine) = Machine::new() else { return };
    let _tidy = Tidy(&machine);
    let before = radio_of_two(&machine);
    let lab = |web: &str, db: &str| {
        format!("nodes:\n  web: {{ interfaces: [{web}] }}\n  db: {{ interfaces: [{db}] }}\nlinks: [web -- db]\n")
    };
    let is_as_before = || ["wlan0", "wlan0b"].iter().zip(&before).for_each(|(dev, state)| machine.is_again(dev, state));
    for (web, db) in [("wlan0", ""), ("", "wlan0b"), ("wlan0", "wlan0b")] {
        let said = machine.fails(&["up", file(&machine, &lab(web, db))]);
        assert!(said.contains("is of the same radio as"), "{said}");
        is_as_before();
    }
    let whole = file(&machine, &lab("wlan0, wlan0b", ""));
    machine.hop(&["up", whole]);
    assert!(!machine.is_here("wlan0") && !machine.is_here("wlan0b"));
    let said = machine.sh(&format!("{HOP} up {whole}"));
    assert!(said.contains("nothing to change"), "{said}");
    // A part of it cannot leave alone, but go elsewhere with the others.
    let said = machine.fails(&["up", file(&machine, &lab("wlan0", ""))]);
    assert!(said.contains("is of the same radio as"), "{said}");
    machine.hop(&["up", file(&machine, &lab("", "wlan0, wlan0b"))]);
    let there = machine.sh(&format!("{HOP} exec db -- ip -br address"));
    assert!(there.contains("203.0.113.1/24") && there.contains("203.0.113.129/25"), "{there}");
    machine.hop(&["down", "web"]);
    is_as_before();
    machine.hop(&["up", file(&machine, &lab("wlan0, wlan0b", ""))]);
    machine.kill_keeper();
    wait_until("the kernel has brought them back", || machine.is_here("wlan0") && machine.is_here("wlan0b"));
    machine.hop(&["down", "web"]);
    is_as_before();
}
