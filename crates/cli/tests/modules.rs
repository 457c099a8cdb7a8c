//! Machines that lack something: modules that are not loaded, limits, rights. Each is told with the way out. In the virtual
//! machine of `.ci/vm`, whose kernel the tests have to themselves: they unload modules, and forbid it to load any.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use common::text;
use common::vm::{CALLERS, Machine, Setting, hop, output};

const NAT: &str = "nodes:\n  r: { nat: { masquerade: eth1 } }\n  a:\n  b:\nlinks: [a -- r, r -- b]\n";

/// One with a gate.
const SANDBOX: &[&str] = &["sandbox", "--allow", "192.0.2.1:1", "--", "true"];

/// Must fail, for that reason and with that way out.
fn fails(machine: &Machine, caller: &[&str], args: &[&str], reason: &str, way_out: &str) {
    let output = output(machine, caller, args);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(!output.status.success(), "hop {args:?} by {caller:?} succeeds: {said}");
    assert!(said.contains(reason), "hop {args:?} by {caller:?} does not say `{reason}`: {said}");
    assert!(said.contains(way_out), "hop {args:?} by {caller:?} does not say `{way_out}`: {said}");
}

/// Unloads what labs have had loaded, and all that needs it.
fn unload(machine: &Machine) {
    machine.sh(
        "while :; do
            before=$(lsmod | wc -l)
            for module in $(lsmod | sed -n 's/^\\(nft_[a-z_]*\\|nf_[a-z0-9_]*\\|nfnetlink\\|veth\\|bridge\\|stp\\|llc\\|tun\\|[a-z]*_diag\\) .*/\\1/p'); do
                rmmod $module 2>/dev/null || true
            done
            [ $(lsmod | wc -l) -lt $before ] || break
        done
        if lsmod | grep -E '^(veth|bridge|nf_tables|tun|inet_diag) '; then exit 1; fi",
    );
}

fn nat_file() -> &'static str {
    std::fs::write("/var/tmp/nat.hop.yaml", NAT).unwrap();
    "/var/tmp/nat.hop.yaml"
}

#[test]
fn the_kernel_loads_what_is_needed_for_an_ordinary_user_too() {
    let Some(machine) = Machine::new() else { return };
    for caller in CALLERS {
        unload(&machine);
        hop(&machine, caller, &["doctor"]);
        hop(&machine, caller, &["down", "--all"]);
        unload(&machine);
        hop(&machine, caller, &["up", nat_file()]);
        assert!(hop(&machine, caller, &["why", "a", "b"]).starts_with("YES"));
        hop(&machine, caller, &["down", "--all"]);
    }
}

#[test]
fn a_module_that_may_not_be_loaded_is_named() {
    let Some(machine) = Machine::new() else { return };
    unload(&machine);
    let _none = Setting::new(&machine, "kernel/modprobe", "/bin/false");
    for caller in CALLERS {
        fails(
            &machine,
            caller,
            &["up", "a -- b"],
            "no veth links, or has not loaded them",
            "hint: as root: modprobe veth",
        );
        fails(&machine, caller, SANDBOX, "create link", "hint: as root: modprobe veth");
        machine.sh("modprobe veth");
        fails(
            &machine,
            caller,
            &["up", "star:3"],
            "no bridges, or has not loaded them",
            "hint: as root: modprobe bridge",
        );
        fails(&machine, caller, &["doctor"], "no bridges", "fix: as root: modprobe bridge");
        fails(
            &machine,
            caller,
            &["up", nat_file()],
            "translates no addresses",
            "modprobe -a nft_chain_nat nft_nat nft_masq nft_ct",
        );
        fails(&machine, caller, SANDBOX, "the firewall", "modprobe -a nf_tables nft_tproxy");
        // What can be had is had: nobody can be asked who listens, and the packet tells.
        hop(&machine, caller, &["up", "a -- b"]);
        assert!(hop(&machine, caller, &["why", "a", "b"]).starts_with("YES"));
        let no = output(&machine, caller, &["why", "a", "b:80"]);
        assert!(!no.status.success() && text(&no.stdout).contains("port 80"), "{no:?}");
        hop(&machine, caller, &["down", "--all"]);
        // What was named is enough.
        machine
            .sh("modprobe bridge; modprobe -a nft_chain_nat nft_nat nft_masq nft_ct; modprobe -a nf_tables nft_tproxy");
        hop(&machine, caller, &["up", nat_file()]);
        assert!(hop(&machine, caller, &["why", "a", "b"]).starts_with("YES"));
        hop(&machine, caller, &["down", "--all"]);
        hop(&machine, caller, SANDBOX);
        unload(&machine);
    }
}

#[test]
fn what_takes_namespaces_away_is_named() {
    let Some(machine) = Machine::new() else { return };
    let [root, user] = CALLERS;
    for (name, value) in [("kernel/unprivileged_userns_clone", 1), ("user/max_user_namespaces", 10000)] {
        let _none = Setting::new(&machine, name, "0");
        let way_out = format!("as root: sysctl -w {}={value}", name.replace('/', "."));
        for args in [&["up", "a -- b"][..], &["run", "a -- b", "--", "true"], &["sandbox", "--", "true"]] {
            fails(&machine, user, args, "error: cannot make", &format!("hint: {way_out}"));
        }
        fails(&machine, user, &["doctor"], "bad", &format!("fix: {way_out}"));
        // Nothing that root needs.
        hop(&machine, root, &["up", "a -- b"]);
        hop(&machine, root, &["down", "--all"]);
    }
    for kind in ["net", "pid", "mnt"] {
        let _none = Setting::new(&machine, &format!("user/max_{kind}_namespaces"), "0");
        let way_out = format!("as root: sysctl -w user.max_{kind}_namespaces=10000");
        for caller in CALLERS {
            fails(&machine, caller, &["up", "a -- b"], "No space left on device", &format!("hint: {way_out}"));
            fails(&machine, caller, &["doctor"], "bad", &format!("fix: {way_out}"));
        }
    }
}
