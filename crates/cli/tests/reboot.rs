//! A machine starts again, for real: what was enabled is up before what needs it. In the virtual machine of `.ci/vm`,
//! which starts twice: the test prepares it the first time, and looks the second.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use common::vm::{HOP, Machine};
use common::wait_until;

/// A service that needs the lab, and writes down what it finds; for one that lies, as for a lab that is not there, it fails.
const NEEDS: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=sh -ec 'cat /proc/sys/kernel/random/boot_id; getent hosts db; ip -br -4 address' \n\
    StandardOutput=truncate:/var/lib/needs\n[Install]\nWantedBy=multi-user.target\n";

/// As hopci, whose systemd runs.
const AS_USER: &str = "setpriv --reuid hopci --regid hopci --init-groups env -i HOME=/home/hopci XDG_RUNTIME_DIR=/run/user/1000 \
    PATH=/usr/bin:/usr/sbin LC_ALL=C.UTF-8";

#[test]
fn what_is_enabled_is_up_when_the_machine_has_started_again() {
    let Some(machine) = Machine::new() else { return };
    match std::env::var("HOPYARD_VM").unwrap().as_str() {
        "second" => look(&machine),
        _ => prepare(&machine),
    }
}

fn prepare(machine: &Machine) {
    let card = machine.card(0);
    let lab = format!(
        "nodes:\n  web:\n    interfaces: [{card}]\n    addresses: {{ {card}: 192.0.2.10/24 }}\n  db:\nlinks: [web -- db]\n"
    );
    std::fs::write("/var/lib/shop.hop.yaml", lab).unwrap();
    std::fs::write("/etc/systemd/system/needs.service", NEEDS).unwrap();
    machine.hop(&["enable", "/var/lib/shop.hop.yaml"]);
    machine.hop(&["unit", "--node", "shop/web", "--install", "needs"]);
    machine.sh("systemctl enable --quiet needs; cp /proc/sys/kernel/random/boot_id /var/lib/first");
    // Of an ordinary user, who is not there when the machine starts.
    machine.sh("loginctl enable-linger hopci");
    wait_until("hopci has a systemd", || {
        machine.output("test", &["-e", "/run/user/1000/systemd/private"]).status.success()
    });
    machine.sh(&format!("{AS_USER} {HOP} enable 'a -- b'"));
    let verified = machine.sh("systemd-analyze verify hopyard-shop.service needs.service 2>&1");
    assert_eq!(verified, "", "systemd-analyze verify");
}

fn look(machine: &Machine) {
    let first = std::fs::read_to_string("/var/lib/first").unwrap();
    let this = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_ne!(first, this, "the machine has started again");
    // Nobody has done anything yet but systemd.
    wait_until("what needs the lab has been started", || {
        machine.output("systemctl", &["is-active", "needs"]).status.success()
    });
    assert_eq!(machine.sh("systemctl is-active hopyard-shop"), "active\n");
    let found = std::fs::read_to_string("/var/lib/needs").unwrap();
    assert!(found.contains(this.trim()), "it has not run in this machine: {found}");
    assert!(found.contains("192.0.2.10/24") && found.contains("db"), "{found}");
    // In time, and at the first attempt.
    assert_eq!(
        machine.sh("systemctl show -p NRestarts --value hopyard-shop needs").split_whitespace().collect::<Vec<_>>(),
        ["0", "0"]
    );
    let when = |unit: &str, what: &str| -> u64 {
        machine.sh(&format!("systemctl show -p {what}TimestampMonotonic --value {unit}")).trim().parse().unwrap()
    };
    let up = when("hopyard-shop", "ActiveEnter");
    assert!(up > 0 && up <= when("needs", "ExecMainStart"), "the service has not waited for the lab");
    assert!(
        up <= when("network-pre.target", "ActiveEnter"),
        "the host's network has not waited for the lab that takes a card"
    );
    // The card is the node's, at a real wire.
    let far = machine.card(1);
    machine.sh(&format!(
        "ip netns add outside; ip link set {far} netns outside; ip -n outside link set {far} up
        ip -n outside address add 192.0.2.1/24 dev {far}"
    ));
    assert!(machine.card(0).is_empty());
    wait_until("the node answers", || machine.outside_reaches("192.0.2.10"));
    assert!(machine.sh(&format!("{HOP} ls")).contains("/etc/hopyard/shop.hop.yaml (enabled)"));
    // The lab of the user, who has not logged in.
    wait_until("hopci's lab is up", || {
        machine.output("sh", &["-c", &format!("{AS_USER} {HOP} ping a b")]).status.success()
    });
    assert_eq!(machine.sh(&format!("{AS_USER} systemctl --user is-active hopyard-a-b")), "active\n");
    // All of it can be taken away again.
    machine.sh(&format!("{AS_USER} {HOP} disable --now a-b"));
    machine.hop(&["unit", "--remove", "needs"]);
    machine.hop(&["disable", "--now", "shop"]);
    assert!(!machine.card(0).is_empty(), "the card is back");
    machine.sh("ip netns delete outside");
    assert_eq!(machine.sh("ls -A /run/hopyard /run/netns /etc/hopyard 2>/dev/null | grep -v : || true"), "");
}
