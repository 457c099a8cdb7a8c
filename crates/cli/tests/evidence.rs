//! What the kernels themselves tell of a packet, in real labs: the rule of the firewall that decided, as root and as an
//! ordinary user, and as root the reason why it was dropped.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::{Command, Stdio};

use common::case::Case;
use common::{Place, is_told_of_drops, text, unique, wait_until};
use hopyard::explain::{Outcome, Packet, Protocol};
use hopyard::kernel::Part;
use hopyard::kernel::nftables::{NftSocket, Owner, TableName, Transaction};
use hopyard::net::{BaseChain, Chain, Hook};
use hopyard::runtime::why::why;
use serde_json::Value;

/// Of a case of the corpus: at which node the kernel drops the packet (`reply`: the answer to it; `error`: an ICMP error
/// about it), and why. Linux 6.18 calls it so; who sees another word for the same on another kernel adds it here.
const REASONS: &[(&str, &str, &str, &[&str])] = &[
    ("blackhole", "r1", "packet", &["NOT_SPECIFIED"]),
    ("firewall-input", "b", "packet", &["NETFILTER_DROP"]),
    ("firewall-on-return", "r2", "reply", &["NETFILTER_DROP"]),
    ("firewall-output", "a", "packet", &["NETFILTER_DROP"]),
    ("firewall-policy-forward", "r1", "packet", &["NETFILTER_DROP"]),
    ("firewall-reject", "r2", "packet", &["NETFILTER_DROP"]),
    ("firewall-reset", "r2", "packet", &["NETFILTER_DROP"]),
    ("firewall-rule-forward", "r1", "packet", &["NETFILTER_DROP"]),
    ("forwarding-off", "r1", "packet", &["IP_INADDRERRORS"]),
    ("forwarding-off-ipv6", "r2", "packet", &["IP_INADDRERRORS"]),
    ("forwarding-off-one-interface", "r1", "reply", &["IP_INADDRERRORS"]),
    ("link-down", "r1", "packet", &["IP_INNOROUTES"]),
    ("local-source", "r2", "packet", &["IP_LOCAL_SOURCE"]),
    ("loop", "r2", "packet", &["IP_INHDR"]),
    ("mtu", "r1", "packet", &["PKT_TOO_BIG"]),
    ("mtu-mismatch", "r1", "packet", &["NOT_SPECIFIED"]),
    ("no-listener", "b", "packet", &["NO_SOCKET"]),
    ("no-return-route-on-the-way", "r2", "reply", &["IP_INNOROUTES"]),
    ("no-route-behind-a-default", "r1", "packet", &["IP_INNOROUTES"]),
    ("no-route-ipv6", "r1", "packet", &["IP_INNOROUTES"]),
    ("no-route-on-the-way", "r1", "packet", &["IP_INNOROUTES"]),
    ("pmtud-blackhole", "r1", "packet", &["PKT_TOO_BIG"]),
    ("pmtud-blackhole", "r1", "error", &["NETFILTER_DROP"]),
    ("policy-rule", "r1", "packet", &["NOT_SPECIFIED"]),
    ("prohibit", "r1", "packet", &["NOT_SPECIFIED"]),
    ("rp-filter", "r2", "packet", &["IP_RPFILTER"]),
    ("rp-filter-no-way-back", "r2", "packet", &["IP_RPFILTER"]),
    ("unreachable", "r1", "packet", &["NOT_SPECIFIED"]),
    ("wrong-static-neighbour", "b", "packet", &["OTHERHOST"]),
];

/// What no kernel drops, though it does not arrive.
const SILENT: &[&str] = &["healthy", "healthy-ipv6", "no-return-route", "no-route-at-source", "segment-healthy"];

/// Which rule ends it; no number: the policy.
const RULES: &[(&str, &str, &str, &str, Option<u64>)] = &[
    ("firewall-input", "b", "packet", "inet fw input", Some(2)),
    ("firewall-on-return", "r2", "reply", "inet fw forward", Some(2)),
    ("firewall-output", "a", "packet", "inet fw output", Some(2)),
    ("firewall-policy-forward", "r1", "packet", "inet fw forward", None),
    ("firewall-reject", "r2", "packet", "inet fw forward", Some(2)),
    ("firewall-reset", "r2", "packet", "inet fw forward", Some(2)),
    ("firewall-rule-forward", "r1", "packet", "inet fw forward", Some(2)),
    ("pmtud-blackhole", "r1", "error", "inet fw output", Some(2)),
];

/// What was seen of a packet at a node, on whichever way that is.
fn seen<'a>(answer: &'a Value, node: &str, part: &str, what: &str) -> Vec<&'a Value> {
    let mut hops = ["there", "back"].iter().flat_map(|way| answer[way].as_array().unwrap());
    // It is the same at each hop of the node.
    let here = hops.find(|hop| hop["node"] == node).and_then(|hop| hop["evidence"]["seen"][what].as_array());
    here.into_iter().flatten().filter(|found| found["of"] == part).collect()
}

#[test]
fn the_kernels_tell_what_they_did_in_every_case() {
    let told = is_told_of_drops();
    if !told {
        println!("skipped: reasons to drop, which only root is told");
    }
    let mut failed = Vec::new();
    for case in Case::all().into_iter().filter(|case| !case.lab.is_empty()) {
        let name = case.name();
        let reasons: Vec<_> = REASONS.iter().filter(|(case, ..)| *case == name).collect();
        let rules: Vec<_> = RULES.iter().filter(|(case, ..)| *case == name).collect();
        let silent = SILENT.contains(&name.as_str());
        if rules.is_empty() && !(told && (silent || !reasons.is_empty())) {
            continue;
        }
        let place = Place::new();
        case.bring_up(&place);
        let answer = case.live(&place);
        for (_, node, part, words) in reasons.into_iter().filter(|_| told) {
            let found = seen(&answer, node, part, "drops");
            if !found.iter().any(|lost| words.contains(&lost["reason"].as_str().unwrap())) {
                failed.push(format!("{name}: {part} at {node}: not {words:?} but {found:?}"));
            }
        }
        if silent && told {
            let all = answer["there"].as_array().unwrap().iter().chain(answer["back"].as_array().unwrap());
            let lost: Vec<_> = all.filter(|hop| hop["evidence"]["seen"]["drops"] != serde_json::json!([])).collect();
            if !lost.is_empty() {
                failed.push(format!("{name}: something was dropped: {lost:#?}"));
            }
        }
        for (_, node, part, chain, rule) in rules {
            let steps = seen(&answer, node, part, "trace");
            let name_of =
                |step: &Value| ["family", "table", "chain"].map(|key| step[key].as_str().unwrap().to_owned()).join(" ");
            let is =
                |step: &Value| step["verdict"] == "drop" && step["rule"].as_u64() == *rule && name_of(step) == *chain;
            if !steps.iter().copied().any(is) {
                failed.push(format!("{name}: {part} at {node}: not {chain} {rule:?} but {steps:?}"));
            }
        }
        if !answer["disagreements"].as_array().unwrap().is_empty() {
            failed.push(format!("{name}: {:#}", answer["disagreements"]));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// ```text
/// a eth0 ------ eth0 r eth1 ------ eth0 b
/// ```
/// r lets pass what it does not understand; b answers nothing: as long as that, hop waits for an answer.
fn waiting_lab(place: &Place) {
    let yaml = format!("name: {}\nlinks: [a -- r -- b]\n", unique("evidence"));
    place.hop(&["up", &place.file("evidence.hop.yaml", &yaml)]);
    let rules = "table inet fw { chain forward { type filter hook forward priority 0; policy drop; \
        meta l4proto icmp limit rate 1000/second accept; ct state established accept; }; }";
    place.hop(&["exec", "r", "--", "nft", rules]);
    place.hop(&["exec", "b", "--", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"]);
}

fn tables(place: &Place) -> String {
    place.hop(&["exec", "r", "--", "nft", "list", "tables"])
}

fn has_nft() -> bool {
    let has = Command::new("nft").arg("--version").output().is_ok();
    assert!(has || std::env::var_os("REQUIRE_LABS").is_none(), "there is no nft");
    if !has {
        println!("skipped: there is no nft");
    }
    has
}

/// Our table is there for a moment: nobody reads it, and it goes also with a hop that is killed.
#[test]
fn the_table_that_traces_is_nobodys_and_goes_with_hop() {
    if !has_nft() {
        return;
    }
    let place = Place::new();
    waiting_lab(&place);
    let record = |name: &str| {
        let path = place.path().join(name).display().to_string();
        place.hop(&["record", "-o", &path]);
        let recording: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        recording["nodes"]["r"]["firewall"].clone()
    };
    let before = record("before.json");
    assert!(before.to_string().contains("forward"), "{before}");
    let mut asking = place.command(&["why", "a", "b"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the table is there", || tables(&place).contains("table inet hopyard-trace-"));
    assert_eq!(record("during.json"), before);
    assert!(place.hop(&["diff"]).is_empty());
    // Another one at the same time sees the same as it does alone.
    let other: Value = serde_json::from_slice(&place.output(&["why", "--json", "a", "b:22"]).stdout).unwrap();
    assert_eq!(other["verdict"]["reason"], "firewall", "{other:#}");
    assert_eq!(other["disagreements"], serde_json::json!([]), "{other:#}");
    let steps = seen(&other, "r", "packet", "trace");
    assert_eq!((steps.len(), steps[0]["rule"].is_null(), &steps[0]["verdict"]), (1, true, &"drop".into()), "{steps:?}");
    asking.kill().unwrap();
    asking.wait().unwrap();
    wait_until("the table is gone", || !tables(&place).contains("hopyard-trace"));
    assert_eq!(tables(&place), "table inet fw\n");
}

#[test]
fn several_at_once_do_not_disturb_each_other() {
    if !has_nft() {
        return;
    }
    let place = Place::new();
    waiting_lab(&place);
    let ask = || place.command(&["why", "--json", "a", "b:22"]).stdout(Stdio::piped()).spawn().unwrap();
    let asking: Vec<_> = (0..6).map(|_| ask()).collect();
    for child in asking {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let steps = seen(&answer, "r", "packet", "trace");
        assert_eq!((steps.len(), &steps[0]["verdict"]), (1, &"drop".into()), "{steps:?}");
    }
    assert_eq!(tables(&place), "table inet fw\n");
}

/// What is not understood is decided by what was seen; a rule that lets a packet pass is shown too.
#[test]
fn where_the_model_does_not_know_the_trace_decides() {
    if !has_nft() {
        return;
    }
    let place = Place::new();
    waiting_lab(&place);
    place.hop(&["exec", "b", "--", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0"]);
    let said = place.hop(&["why", "a", "b"]);
    assert!(said.starts_with("YES a -> "), "{said}");
    assert!(said.contains("; traced: handle 2 of inet fw forward accepts it: meta l4proto"), "{said}");
    let said = place.hop(&["why", "a", "b", "--no-trace"]);
    assert!(said.contains("forwarded, ttl 63\n") && !said.contains("traced"), "{said}");
    place.hop(&["exec", "r", "--", "nft", "flush chain inet fw forward"]);
    let rule = "add rule inet fw forward meta l4proto icmp quota over 1 bytes reject";
    place.hop(&["exec", "r", "--", "nft", rule]);
    let output = place.output(&["why", "--json", "a", "b"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{answer:#}");
    let verdict = &answer["verdict"];
    assert_eq!(
        (&verdict["reason"], &verdict["node"], &verdict["confidence"]),
        (&"firewall".into(), &"r".into(), &"seen".into())
    );
    let words = verdict["text"].as_str().unwrap();
    assert!(
        words.starts_with("the firewall of r rejects it: the rule with handle ")
            && words.ends_with(" of chain inet fw forward (forward)"),
        "{words}"
    );
    assert_eq!(answer["there"][1]["drop"]["reason"], "undecided", "the model still does not know: {answer:#}");
    assert_eq!(answer["fix"], Value::Null);
}

/// A switch is no hop. What its rules drop is told all the same: those for frames, and those for IP, to which the kernel
/// shows frames where `bridge-nf-call-iptables` is set.
#[test]
fn a_switch_that_drops_frames_is_named() {
    if !has_nft() {
        return;
    }
    let place = Place::new();
    let yaml = format!("name: {}\nnodes: {{ c: , d: }}\nswitches: {{ sw: [c, d] }}\n", unique("switch"));
    place.hop(&["up", &place.file("switch.hop.yaml", &yaml)]);
    let exec = |words: &[&str]| place.hop(&[&["exec", "sw", "--"], words].concat());
    let cases = [
        ("ip", "policy drop", "the policy of chain ip fw forward", "net.bridge.bridge-nf-call-iptables=1"),
        (
            "bridge",
            "meta l4proto icmp drop",
            "the rule with handle 2 of chain bridge fw forward",
            "net.bridge.bridge-nf-call-iptables=0",
        ),
    ];
    for (family, rule, named, sysctl) in cases {
        if exec(&["sh", "-c", "ls /proc/sys/net/bridge 2>/dev/null || true"]).is_empty() {
            println!("skipped: no br_netfilter");
            continue;
        }
        exec(&["sysctl", "-qw", sysctl]);
        exec(&[
            "nft",
            &format!("table {family} fw {{ chain forward {{ type filter hook forward priority 0; {rule}; }}; }}"),
        ]);
        let said = text(&place.output(&["why", "c", "d"]).stdout);
        assert!(said.contains("the firewall of sw drops ") && said.contains(named), "{family}: {said}");
        assert!(!said.starts_with("YES"), "{family}: {said}");
        exec(&["nft", "flush", "ruleset"]);
        assert!(place.hop(&["why", "c", "d"]).starts_with("YES"), "{family}");
    }
}

/// By `lo` it comes to the rules a second time, and is traced already.
#[test]
fn what_a_node_sends_to_itself_is_traced_twice() {
    if !has_nft() {
        return;
    }
    let place = Place::new();
    let yaml = format!("name: {}\nlinks: [a -- b]\n", unique("itself"));
    place.hop(&["up", &place.file("itself.hop.yaml", &yaml)]);
    let (chain, rule) = ("chain input { type filter hook input priority 0; }", "ip protocol != 255 drop");
    place.hop(&["exec", "a", "--", "nft", &format!("table inet fw {{ {chain}; }}; add rule inet fw input {rule}")]);
    for to in ["a", "a:80", "a:53/udp"] {
        let output = place.output(&["why", "a", to]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("traced: handle 2 of inet fw input drops it"), "{said}");
    }
}

/// As a host of containers has it: its firewall sees a packet in its bridge first, and again as a router.
#[test]
fn a_router_with_a_bridge_of_its_own_is_traced() {
    if !has_nft() {
        return;
    }
    let place = Place::new();
    let yaml = format!(
        "name: {}\nnodes: [c, f, s]\nlinks:\n  - {{ endpoints: [c, f], ipv4: [10.5.0.2/24, 10.5.0.1/24] }}\n  - f -- s\n\
         addressing: {{ ipv6: none }}\n",
        unique("docker")
    );
    place.hop(&["up", &place.file("docker.hop.yaml", &yaml)]);
    let exec = |node: &str, script: &str| place.hop(&["exec", node, "--", "sh", "-ec", script]);
    exec(
        "f",
        "ip address flush dev eth0; ip link add name br0 type bridge; ip link set dev eth0 master br0
         ip link set dev br0 up; ip address add 10.5.0.1/24 dev br0
         ip route show 10.5.0.0/24
         nft 'table inet f { chain fw { type filter hook forward priority 0; policy drop; }; }'",
    );
    exec("c", "ip neigh flush dev eth0");
    let output = place.output(&["why", "c", "s"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("traced: the policy of inet f fw drops it"), "{said}");
    // A port of the host leads back to who asks: it depends on the bridge, which is not asked.
    let rule = "ip daddr 10.5.0.1 tcp dport 8000 dnat to 10.5.0.2:80";
    exec("f", &format!("nft 'table ip n {{ chain p {{ type nat hook prerouting priority -100; {rule}; }}; }}'"));
    let said = text(&place.output(&["why", "c", "10.5.0.1:8000", "--no-probe"]).stdout);
    assert!(said.starts_with("???") && said.contains("bridge-nf"), "{said}");
}

/// Without what the kernel says of its types nothing is missing but the reason; root is told why, and programs are.
#[test]
fn a_kernel_that_does_not_tell_its_reasons_is_no_hindrance() {
    if !has_nft() {
        return;
    }
    let place = Place::new();
    waiting_lab(&place);
    place.hop(&["exec", "r", "--", "sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    let ask = |args: &[&str]| {
        let hop =
            [env!("CARGO_BIN_EXE_hop"), "why", "a", "b"].iter().chain(args).copied().collect::<Vec<_>>().join(" ");
        let mut command = if is_told_of_drops() {
            let script = format!("mount -t tmpfs none /sys/kernel/btf && exec {hop}");
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", &hop]);
            command
        };
        let output = command.env("HOPYARD_DIR", place.records()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    let answer: Value = serde_json::from_str(&ask(&["--json"])).unwrap();
    let why = answer["no_drop_reasons"].as_str().unwrap();
    let expected =
        if is_told_of_drops() { "cannot read /sys/kernel/btf/vmlinux: No such file" } else { "not permitted" };
    assert!(why.contains(expected), "{why}");
    let seen = &answer["there"][1]["evidence"]["seen"];
    assert_eq!((&seen["drops"], &seen["counters"]["InAddrErrors"]), (&Value::Null, &1.into()), "{seen}");
    let said = ask(&[]);
    let untold =
        if is_told_of_drops() { "; the kernel does not say why: No such file or directory (ENOENT)" } else { "" };
    assert!(said.contains(&format!("arrived, never left; InAddrErrors +1{untold}\n")), "{said}");
}

/// Rules that a socket of another program owns are followed like others; no descriptor is left open.
#[test]
fn a_ruleset_of_another_program_is_traced_and_nothing_is_left_open() {
    let net = hopyard::Network::start("a -- r -- b").unwrap();
    let table = TableName::inet("theirs");
    let chain = Chain {
        family: "inet".to_owned(),
        table: "theirs".to_owned(),
        name: "forward".to_owned(),
        base: Some(BaseChain {
            hook: Hook::Forward,
            priority: 0,
            drops: true,
            kind: "filter".to_owned(),
            devices: Vec::new(),
        }),
        rules: Vec::new(),
    };
    let owner = net.node("r").unwrap().run(|| {
        let socket = NftSocket::open().unwrap();
        let mut transaction = Transaction::new();
        transaction.add_table(&table, Owner::Socket);
        transaction.add_chains(&[chain]);
        socket.commit(transaction).unwrap();
        socket
    });
    let dst = net.node("b").unwrap().ipv4().unwrap().into();
    let ask = || why(net.running(), "a", Packet::probe(dst, Protocol::Icmp, 0), None, true).unwrap();
    let report = ask();
    assert_eq!((report.outcome(), report.disagreements.as_slice()), (Outcome::No, [].as_slice()));
    let seen = report.seen.unwrap().at(&"r".parse().unwrap());
    let end = seen.traced.end_of(Part::Packet).unwrap();
    assert_eq!((end.table.as_str(), end.chain.as_str(), end.rule), ("theirs", "forward", None));
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // The other tests of this program open and close some meanwhile.
    let (before, runs) = (open(), 40);
    for _ in 0..runs {
        ask();
    }
    assert!(open() < before + runs, "{before} descriptors became {}", open());
    drop(owner);
    // Which a process that another test starts meanwhile has too, until it executes its program.
    wait_until("their table went with their socket", || ask().outcome() == Outcome::Yes);
}
