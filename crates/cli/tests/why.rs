//! `hop why` on real labs: what it says of each stage, that its changes work, and what it costs to ask.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use common::{Place, as_told_here, text, unique, wait_until};

/// ```text
/// h1 eth0 ------ eth0 r1 eth1 ------ eth0 h2 lo
///    10.0.1.2    10.0.1.1 10.0.2.1   10.0.2.2  10.9.0.1/24
/// ```
const BARE: &str = "\
name: NAME
nodes:
  h1:
  r1:
  h2: { loopback: 10.9.0.1/24 }
links:
  - endpoints: [h1:eth0, r1:eth0]
    ipv4: [10.0.1.2/24, 10.0.1.1/24]
  - endpoints: [r1:eth1, h2:eth0]
    ipv4: [10.0.2.1/24, 10.0.2.2/24]
routing: none
";

const FORTH: &str = "ip route add 10.0.2.0/24 via 10.0.1.1";
const FORWARD: &str = "sysctl -w net.ipv4.ip_forward=1";
const BACK: &str = "ip route add 10.0.1.0/24 via 10.0.2.1";

fn bare(place: &Place) {
    let file = place.file("bare.hop.yaml", &BARE.replace("NAME", &unique("why")));
    place.hop(&["up", &file]);
}

/// Types a command in a node.
fn run(place: &Place, node: &str, command: &str) {
    place.hop(&["exec", node, "--", "sh", "-c", command]);
}

#[track_caller]
fn says(place: &Place, status: i32, args: &[&str], expected: &str) {
    let args: Vec<&str> = ["why"].iter().chain(args).copied().collect();
    let output = place.output(&args);
    assert_eq!(text(&output.stdout), as_told_here(expected), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(status));
}

/// Types all commands that the last answer names, and asks again.
#[track_caller]
fn follow(place: &Place, args: &[&str]) {
    let json = place.output(&[&["why", "--json"], args].concat());
    let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer["reachable"], serde_json::Value::Bool(false), "{answer}");
    assert_eq!(answer["verdict"]["confidence"], "seen", "{answer}");
    assert!(answer["verdict"]["reason"].is_string() && answer["verdict"]["node"].is_string(), "{answer}");
    for edit in answer["fix"]["edits"].as_array().unwrap() {
        run(place, edit["node"].as_str().unwrap(), edit["cmd"].as_str().unwrap());
    }
    let after = place.output(&[&["why"], args].concat());
    assert_eq!(after.status.code(), Some(0), "{}", text(&after.stdout));
    assert!(place.hop(&[&["ping"], args].concat()).contains(" reaches "));
}

#[test]
fn stage_1_nothing_is_routed() {
    let place = Place::new();
    bare(&place);
    says(
        &place,
        1,
        &["h1", "10.0.2.2"],
        "\
NO  h1 -> 10.0.2.2 (h2) icmp: h1 has no route to 10.0.2.2
 there 1 h1  x no route: main has only 10.0.1.0/24  kernel: ENETUNREACH; nothing sent
 back        not reached
3 changes make it work both ways (checked in the model):
 1 h1  ip route add 10.0.2.0/24 via 10.0.1.1  bare.hop.yaml:3  nodes.h1.routes: 10.0.2.0/24 via 10.0.1.1
 2 r1  sysctl -w net.ipv4.ip_forward=1        bare.hop.yaml:4  nodes.r1.forward: true
 3 h2  ip route add 10.0.1.0/24 via 10.0.2.1  bare.hop.yaml:5  nodes.h2.routes: 10.0.1.0/24 via 10.0.2.1
Only 1 shows now; after that the packet would stop at r1 (2), then the reply at h2 (3).
",
    );
    follow(&place, &["h1", "10.0.2.2"]);
}

/// As they stand there, by a shell.
#[test]
fn the_changes_are_typed_from_here_as_they_are_printed() {
    let place = Place::new();
    bare(&place);
    let hop = std::path::Path::new(env!("CARGO_BIN_EXE_hop")).parent().unwrap();
    let path = format!("{}:{}", hop.display(), std::env::var("PATH").unwrap());
    let typed = |said: &str| {
        let (_, commands) = said.split_once("hint: by hand, from here:\n").unwrap_or_else(|| panic!("{said}"));
        for command in commands.lines().map(|line| line.strip_prefix("  ").unwrap()) {
            assert!(command.starts_with("hop exec "), "{command}");
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", command]).env("PATH", &path).env("HOPYARD_DIR", place.records());
            let output = shell.output().unwrap();
            assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        }
    };
    let output = place.output(&["why", "h1", "10.0.2.2"]);
    assert_eq!(text(&output.stderr).matches("  hop exec ").count(), 3, "{}", text(&output.stderr));
    typed(&text(&output.stderr));
    assert!(place.hop(&["why", "h1", "10.0.2.2"]).starts_with("YES"));
    // With the lab's name, where it was asked for by that.
    let json: serde_json::Value = serde_json::from_str(&place.hop(&["ls", "--json"])).unwrap();
    let lab = json[0]["lab"].as_str().unwrap().to_owned();
    run(&place, "r1", "ip route add prohibit 10.0.1.2/32");
    let from = format!("{lab}/h2");
    let output = place.output(&["why", &from, "h1"]);
    assert!(text(&output.stderr).contains(&format!("  hop exec {lab}/r1 -- ip route ")), "{}", text(&output.stderr));
    typed(&text(&output.stderr));
    assert!(place.hop(&["why", &from, "h1"]).starts_with("YES"));
    assert!(!text(&place.output(&["why", "h1", "10.0.2.2", "--no-probe"]).stderr).contains("by hand"));
}

#[test]
fn stage_2_nothing_is_forwarded() {
    let place = Place::new();
    bare(&place);
    run(&place, "h1", FORTH);
    says(
        &place,
        1,
        &["h1", "10.0.2.2"],
        "\
NO  h1 -> 10.0.2.2 (h2) icmp: r1 does not forward (net.ipv4.ip_forward = 0)
 there 1 h1       10.0.2.0/24 via 10.0.1.1 dev eth0      sent, ttl 64
       2 r1 eth0  x forwarding off; would leave by eth1  arrived, never left; InAddrErrors +1; drop IP_INADDRERRORS
 back             not reached; computed: h2 has no route to 10.0.1.2
2 changes make it work both ways (checked in the model):
 1 r1  sysctl -w net.ipv4.ip_forward=1        bare.hop.yaml:4  nodes.r1.forward: true
 2 h2  ip route add 10.0.1.0/24 via 10.0.2.1  bare.hop.yaml:5  nodes.h2.routes: 10.0.1.0/24 via 10.0.2.1
",
    );
    follow(&place, &["h1", "10.0.2.2"]);
}

#[test]
fn stage_3_there_is_no_way_back() {
    let place = Place::new();
    bare(&place);
    run(&place, "h1", FORTH);
    run(&place, "r1", FORWARD);
    says(
        &place,
        1,
        &["h1", "10.0.2.2"],
        "\
NO  h1 -> 10.0.2.2 (h2) icmp: it arrives, but h2 has no route back to 10.0.1.2
 there 1 h1       10.0.2.0/24 via 10.0.1.1 dev eth0      sent, ttl 64
       2 r1 eth0  10.0.2.0/24 dev eth1 (connected)       forwarded, ttl 63
       3 h2 eth0  delivered                              arrived, ttl 63
 back  3 h2       x no route: main has only 10.0.2.0/24  kernel: ENETUNREACH; no reply left h2 (no drop counter moves)
1 change makes it work both ways (checked in the model):
 1 h2  ip route add 10.0.1.0/24 via 10.0.2.1  bare.hop.yaml:5  nodes.h2.routes: 10.0.1.0/24 via 10.0.2.1
",
    );
    follow(&place, &["h1", "10.0.2.2"]);
}

#[test]
fn stage_3b_both_routes_and_no_forwarding() {
    let place = Place::new();
    bare(&place);
    run(&place, "h1", FORTH);
    run(&place, "h2", BACK);
    says(
        &place,
        1,
        &["h1", "10.0.2.2"],
        "\
NO  h1 -> 10.0.2.2 (h2) icmp: r1 does not forward (net.ipv4.ip_forward = 0)
 there 1 h1       10.0.2.0/24 via 10.0.1.1 dev eth0      sent, ttl 64
       2 r1 eth0  x forwarding off; would leave by eth1  arrived, never left; InAddrErrors +1; drop IP_INADDRERRORS
 back             not reached; computed: fine once 1 is done (h2: 10.0.1.0/24 via 10.0.2.1)
1 change makes it work both ways (checked in the model):
 1 r1  sysctl -w net.ipv4.ip_forward=1  bare.hop.yaml:4  nodes.r1.forward: true
",
    );
    follow(&place, &["h1", "10.0.2.2"]);
}

#[test]
fn stage_4_it_works_and_stage_5_the_next_hop_lacks_a_route() {
    let place = Place::new();
    bare(&place);
    run(&place, "h1", FORTH);
    run(&place, "r1", FORWARD);
    run(&place, "h2", BACK);
    says(
        &place,
        0,
        &["h1", "10.0.2.2"],
        "\
YES h1 -> 10.0.2.2 (h2) icmp: there and back, 3 nodes
 there 1 h1       10.0.2.0/24 via 10.0.1.1 dev eth0  sent, ttl 64
       2 r1 eth0  10.0.2.0/24 dev eth1 (connected)   forwarded, ttl 63
       3 h2 eth0  delivered                          arrived, ttl 63
 back  3 h2       10.0.1.0/24 via 10.0.2.1 dev eth0  sent, ttl 64
       2 r1 eth1  10.0.1.0/24 dev eth0 (connected)   forwarded, ttl 63
       1 h1 eth0  delivered                          arrived, ttl 63
",
    );
    let without = place.hop(&["why", "--no-probe", "h1", "10.0.2.2"]);
    assert_eq!(without.matches("  kernel agrees\n").count(), 6, "{without}");
    run(&place, "h1", "ip route add default via 10.0.1.1");
    says(
        &place,
        1,
        &["h1", "10.9.0.1"],
        "\
NO  h1 -> 10.9.0.1 (h2) icmp: r1 has no route to 10.9.0.1
 there 1 h1       default via 10.0.1.1 dev eth0                       sent, ttl 64
       2 r1 eth0  x no route: main has only 10.0.1.0/24, 10.0.2.0/24  arrived; r1 answered network unreachable (ICMP 3/0); InNoRoutes +1; drop IP_INNOROUTES
 back             not reached; computed: fine once 1 is done (h2: 10.0.1.0/24 via 10.0.2.1)
1 change makes it work both ways (checked in the model):
 1 r1  ip route add 10.9.0.0/24 via 10.0.2.2  bare.hop.yaml:4  nodes.r1.routes: 10.9.0.0/24 via 10.0.2.2
",
    );
    follow(&place, &["h1", "10.9.0.1"]);
}

#[test]
fn what_the_file_declares_is_restored_first() {
    let place = Place::new();
    let yaml = format!("name: {}\nlinks: [a -- r -- b]\n", unique("drift"));
    let file = place.file("drift.hop.yaml", &yaml);
    place.hop(&["up", &file]);
    assert!(place.hop(&["why", "a", "b"]).starts_with("YES a -> 10."));
    assert!(place.hop(&["why", "-6", "a", "b"]).starts_with("YES a -> fd"));
    run(&place, "r", "sysctl -w net.ipv4.ip_forward=0");
    run(&place, "b", "ip route del default");
    let said = text(&place.output(&["why", "a", "b"]).stdout);
    assert!(said.contains("r does not forward"), "{said}");
    assert!(said.contains("2 changes make it work"), "{said}");
    assert_eq!(said.matches("drift.hop.yaml has it").count(), 2, "{said}");
    follow(&place, &["-4", "a", "b"]);
    assert_eq!(place.hop(&["diff"]), "");
    // What somebody has added goes: of that the file has nothing.
    let address = place.hop(&["exec", "b", "--", "ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    let address = address.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
    run(&place, "r", &format!("ip route add blackhole {address}/32"));
    let said = text(&place.output(&["why", "a", "b"]).stdout);
    assert!(said.contains("drift.hop.yaml does not have it"), "{said}");
}

/// Makes a change in the file as a person would who reads the line and the key.
fn write_down(text: &str, edit: &serde_json::Value) -> String {
    let [key, value] = ["key", "value"].map(|name| edit[name].as_str().unwrap());
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let at = usize::try_from(edit["line"].as_u64().unwrap()).unwrap() - 1;
    let (part, rest) = key.split_once(['.', '[']).unwrap();
    let node = rest.split('.').next().unwrap();
    if let Some((_, dev)) = key.split_once(".addresses.") {
        // Named is the line of the node.
        assert_eq!(lines[at].trim(), format!("{node}:"));
        let find = |text: String| (at..lines.len()).find(|&line| lines[line].trim() == text).unwrap();
        if edit["remove"] == true {
            lines.remove(find(format!("- {value}")));
        } else {
            lines.insert(find(format!("{dev}:")) + 1, format!("        - {value}"));
        }
    } else if edit["remove"] == true {
        assert_eq!(lines[at].trim(), format!("- {value}"));
        lines.remove(at);
    } else if let Some(old) = edit["instead_of"].as_str() {
        assert_eq!(lines[at].trim(), format!("- {old}"));
        lines[at] = lines[at].replace(old, value);
    } else if part == "links" {
        assert!(lines[at].trim().starts_with("- endpoints"), "{}", lines[at]);
        let size = (at..lines.len()).find(|&line| lines[line].contains("mtu: ")).unwrap();
        lines[size] = format!("    mtu: {value}");
    } else {
        assert_eq!(lines[at].trim(), format!("{node}:"));
        let key = rest.split_once('.').unwrap().1;
        let (section, entry) = key.split_once('.').unwrap_or((key, ""));
        let there = lines[at + 1..].iter().take_while(|line| line.starts_with("    "));
        let there = there.map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let found = there.iter().position(|line| *line == format!("{section}:"));
        match (section, found) {
            ("routes", Some(below)) => {
                assert_eq!(edit["append"], true);
                lines.insert(at + below + 2, format!("      - {value}"));
            }
            ("sysctls", Some(_)) => {
                let below = there.iter().position(|line| line.starts_with(&format!("{entry}:"))).unwrap();
                lines[at + below + 1] = format!("      {entry}: {value}");
            }
            _ => lines.insert(at + 1, format!("    {key}: {value}")),
        }
    }
    lines.join("\n") + "\n"
}

/// What is wrong in the file itself is mended there: at the line and the key that are named.
#[test]
fn what_is_to_be_written_into_the_file_makes_it_work() {
    const RIGHT: &str = "\
name: NAME
nodes:
  h1:
    routes:
      - default via 10.0.1.1
  r1:
    forward: true
    routes:
      - 10.9.0.0/24 via 10.0.2.2
  h2:
    routes:
      - 10.0.1.0/24 via 10.0.2.1
    loopback: 10.9.0.1/24
links:
  - endpoints: [h1:eth0, r1:eth0]
    ipv4: [10.0.1.2/24, 10.0.1.1/24]
  - endpoints: [r1:eth1, h2:eth0]
    ipv4: [10.0.2.1/24, 10.0.2.2/24]
routing: none
addressing: { ipv6: none }
";
    let wrong = |from: &str, to: &str| {
        assert!(RIGHT.contains(from));
        RIGHT.replace(from, to)
    };
    let cases: [(String, &[&str], &str); 11] = [
        // A wrong prefix length.
        (
            wrong("  h1:\n", "  h1:\n    addresses:\n      eth0:\n        - 10.0.1.2/8\n")
                .replace("  r1:\n", "  r1:\n    addresses:\n      eth0:\n        - 10.0.1.1/24\n")
                .replace("    ipv4: [10.0.1.2/24, 10.0.1.1/24]\n", "    ipv4: none\n"),
            &[],
            "nodes.h1.addresses.eth0 += 10.0.1.2/24",
        ),
        (wrong("    routes:\n      - default via 10.0.1.1\n", ""), &[], "nodes.h1.routes: 10.9.0.0/24 via 10.0.1.1"),
        (wrong("default via 10.0.1.1", "10.7.0.0/16 via 10.0.1.1"), &[], "nodes.h1.routes += 10.9.0.0/24 via 10.0.1.1"),
        (wrong("    forward: true\n", ""), &[], "nodes.r1.forward: true"),
        (
            wrong("    forward: true\n", "    sysctls:\n      net.ipv4.ip_forward: 0\n"),
            &[],
            "nodes.r1.sysctls.net.ipv4.ip_forward: 1",
        ),
        (
            wrong("- 10.9.0.0/24 via 10.0.2.2", "- 10.9.0.0/24 via 10.0.1.2"),
            &[],
            "nodes.r1.routes: 10.9.0.0/24 via 10.0.1.2 -> 10.9.0.0/24 via 10.0.2.2",
        ),
        (
            wrong("- 10.9.0.0/24 via 10.0.2.2", "- 10.9.0.0/24 via 10.0.2.2\n      - blackhole 10.9.0.1/32"),
            &[],
            "nodes.r1.routes -= blackhole 10.9.0.1/32",
        ),
        // Of two to one destination, the one that is meant.
        (
            wrong(
                "- 10.9.0.0/24 via 10.0.2.2",
                "- blackhole 10.9.0.0/24 metric 10\n      - 10.9.0.0/24 via 10.0.2.2 metric 20",
            ),
            &[],
            "nodes.r1.routes -= blackhole 10.9.0.0/24 metric 10",
        ),
        (
            wrong("    forward: true\n", "    forward: true\n    sysctls:\n      net.ipv4.conf.eth0.arp_ignore: 8\n"),
            &[],
            "nodes.r1.sysctls.net.ipv4.conf.eth0.arp_ignore: 0",
        ),
        (wrong("    ipv4: [10.0.2.1", "    mtu: 1280\n    ipv4: [10.0.2.1"), &["--size", "1400"], "links[1].mtu: 1400"),
        // Several at once: what is named is all that it takes.
        (
            wrong("    forward: true\n", "").replace("    routes:\n      - default via 10.0.1.1\n", ""),
            &[],
            "nodes.r1.forward: true",
        ),
    ];
    for (mut text, more, told) in cases {
        let place = Place::new();
        text = text.replace("NAME", &unique("why"));
        let file = place.file("written.hop.yaml", &text);
        place.hop(&["up", &file]);
        let question = [&["h1", "10.9.0.1"], more].concat();
        let output = place.output(&[&["why"], &question[..]].concat());
        assert!(self::text(&output.stdout).contains(told), "{told}: {}", self::text(&output.stdout));
        let json = place.output(&[&["why", "--json"], &question[..]].concat());
        let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        let edits = answer["fix"]["edits"].as_array().unwrap();
        let mut edits: Vec<serde_json::Value> = edits.iter().map(|edit| edit["file"].clone()).collect();
        edits.dedup();
        edits.sort_by_key(|edit| std::cmp::Reverse(edit["line"].as_u64()));
        for edit in &edits {
            text = write_down(&text, edit);
        }
        place.file("written.hop.yaml", &text);
        place.hop(&["up", &file]);
        let after = place.output(&[&["why"], &question[..]].concat());
        assert_eq!(after.status.code(), Some(0), "{told}\n{text}\n{}", self::text(&after.stdout));
        assert!(place.hop(&["ping", "h1", "10.9.0.1"]).contains(" reaches "));
    }
}

#[test]
fn the_changes_are_made_and_proved_or_not_made() {
    let place = Place::new();
    bare(&place);
    let said = place.hop(&["why", "--fix", "h1", "10.0.2.2"]);
    assert!(said.ends_with("done: YES h1 -> 10.0.2.2 (h2) icmp: there and back, 3 nodes\n"), "{said}");
    assert!(place.hop(&["ping", "h1", "10.0.2.2"]).contains("h1 reaches 10.0.2.2"));
    // What works is left alone.
    assert!(place.hop(&["why", "--fix", "h1", "10.0.2.2"]).starts_with("YES"));
    run(&place, "r1", "ip rule add priority 100 to 10.0.2.2 prohibit");
    let output = place.output(&["why", "--fix", "h1", "10.0.2.2"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("r1 refuses it by policy rule 100"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("change 1 is about a firewall or a policy rule"), "{}", text(&output.stderr));
    assert!(place.hop(&["exec", "r1", "ip", "rule"]).contains("prohibit"));
    run(&place, "r1", "ip rule delete priority 100");
    assert!(place.hop(&["why", "h1", "10.0.2.2"]).starts_with("YES"));
}

/// The model knows nothing of this switch; the packet does.
#[test]
fn what_contradicts_the_model_is_shown_and_changes_that_do_not_help_are_taken_back() {
    let place = Place::new();
    bare(&place);
    // What the model does not know: r1 answers h1's question for its address only if it would send by that interface too.
    run(&place, "r1", "sysctl -w net.ipv4.conf.all.arp_filter=1");
    run(&place, "r1", "ip route add 10.0.1.2/32 dev eth1 table 77; ip rule add from 10.0.1.1 to 10.0.1.2 lookup 77");
    let state = || ["h1", "r1", "h2"].map(|node| place.hop(&["show", "--json", node])).concat();
    let before = state();
    let output = place.output(&["why", "--fix", "h1", "10.0.2.2"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("undone, as it did not help: NO  h1"), "{}", text(&output.stdout));
    assert_eq!(state(), before);
    run(&place, "h1", FORTH);
    run(&place, "r1", FORWARD);
    run(&place, "h2", BACK);
    let output = place.output(&["why", "h1", "10.0.2.2"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.starts_with("??? h1 -> 10.0.2.2"), "{said}");
    assert!(said.contains("contradiction: it should work, and the probe got no answer"), "{said}");
    assert!(said.contains("nothing sent\n"), "{said}");
    assert_eq!(place.output(&["why", "--no-probe", "h1", "10.0.2.2"]).status.code(), Some(0));
}

#[test]
fn a_packet_that_is_too_long_is_stopped_where_it_does_not_fit() {
    let place = Place::new();
    let yaml = format!("name: {}\nlinks: [a -- r -- b]\n", unique("mtu"));
    place.hop(&["up", &place.file("mtu.hop.yaml", &yaml)]);
    let asked = |status: i32, family: &str, size: &str| {
        let output = place.output(&["why", family, "--size", size, "a", "b"]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{said}{}", text(&output.stderr));
        said
    };
    let hints = |args: &[&str]| text(&place.output(args).stderr);
    let addresses = |family: &str, node: &str| {
        let said = place.hop(&["ping", family, "a", node]);
        said.split(['(', ')']).nth(1).unwrap().to_owned()
    };
    for family in ["-4", "-6"] {
        asked(0, family, "1500");
        assert!(asked(1, family, "1501").contains("1501 bytes do not fit through a's eth0, whose MTU is 1500"));
        // Both ends, as it should be: the router says so.
        run(&place, "r", "ip link set eth1 mtu 1280");
        run(&place, "b", "ip link set eth0 mtu 1280");
        let said = asked(1, family, "1400");
        assert!(said.contains("1400 bytes do not fit through r's eth1, whose MTU is 1280"), "{said}");
        assert!(
            said.contains(if family == "-4" {
                "fragmentation needed (ICMP 3/4)"
            } else {
                "packet too big (ICMPv6 2/0)"
            }),
            "{said}"
        );
        assert!(said.contains("ip link set dev eth1 mtu 1500"), "{said}");
        asked(0, family, "1280");
        let short = |from: &str, to: &str| text(&place.output(&["why", family, from, to]).stdout);
        assert!(!short("a", "b").contains("Long"), "who sends is told");
        // One end alone: nobody says anything.
        run(&place, "r", "ip link set eth1 mtu 1500");
        // Whoever asks, for it is a packet of a's that is lost.
        for said in [short("a", "b"), short("b", "a")] {
            assert!(said.starts_with("YES "), "{said}");
            let lost = "Long packets are lost, but for those of TCP, whose ends agree on shorter ones: 1500 bytes are more than b:eth0 takes in";
            assert!(said.contains(lost), "{said}");
        }
        // Between the ends nobody tells them.
        run(&place, "b", "ip link set eth0 mtu 1500");
        run(&place, "r", "ip link set eth1 mtu 1280");
        for said in [short("a", "b"), short("b", "a")] {
            let lost = "Long packets are lost, so a connection may open and then hang: 1500 bytes are more than r:eth1 takes in";
            assert!(said.contains(lost), "{said}");
        }
        run(&place, "r", "ip link set eth1 mtu 1500");
        run(&place, "b", "ip link set eth0 mtu 1280");
        let to = addresses(family, "b");
        assert!(hints(&["why", family, "b", "a"]).contains(&format!("`hop why a {to} --size 1500`")));
        let said = asked(1, family, "1400");
        assert!(said.contains("1400 bytes are more than b:eth0 takes in (MTU 1280)"), "{said}");
        let done = place.hop(&["why", family, "--fix", "--size", "1400", "a", "b"]);
        assert!(done.contains("done: YES a -> "), "{done}");
    }
    assert!(place.fails(2, &["why", "--size", "1400", "a", "b:80"]).contains("--size is not for TCP"));
}

#[test]
fn a_sender_without_an_address_of_the_family_is_told_that() {
    let place = Place::new();
    let yaml = format!(
        "name: {}\nlinks:\n  - {{ endpoints: [a, b], ipv4: [10.0.1.1/24, 10.0.1.2/24], ipv6: none }}\n  - b -- c\nrouting: none\n",
        unique("family")
    );
    place.hop(&["up", &place.file("family.hop.yaml", &yaml)]);
    let output = place.output(&["why", "-6", "a", "c"]);
    let said = text(&output.stdout);
    assert!(output.status.code() == Some(1) && said.contains("a has no IPv6 address that fd68:"), "{said}");
}

#[test]
fn where_no_change_is_found_what_differs_from_the_file_is_pointed_at() {
    let place = Place::new();
    place.hop(&["up", "a -- r -- b", "-4", "--name", &unique("onward")]);
    let hints = |to: &str| {
        let output = place.output(&["why", "a", to]);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(hints("192.0.2.1"), (Some(1), String::new()), "it is as declared");
    run(&place, "r", "ip route add blackhole 192.0.2.0/24");
    let (status, said) = hints("192.0.2.1");
    assert_eq!(status, Some(1));
    assert!(said.contains("the lab is not as declared: `hop diff` shows what differs"), "{said}");
    assert!(!hints("b").1.contains("as declared"), "what is answered needs no way out");
}

/// Opens a socket in a node, and keeps it until standard input ends.
fn serve(place: &Place, node: &str, socket: &str) -> std::process::Child {
    let script = format!("import socket,sys;{socket};print('on',flush=True);sys.stdin.read()");
    let mut serving = place
        .command(&["exec", node, "python3", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(serving.stdout.take().unwrap()), &mut line).unwrap();
    serving
}

#[test]
fn a_port_without_a_listener_says_what_does_listen() {
    let place = Place::new();
    let yaml = format!("name: {}\nlinks: [a -- b]\n", unique("port"));
    place.hop(&["up", &place.file("port.hop.yaml", &yaml)]);
    let output = place.output(&["why", "a", "b:80"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("nothing listens on port 80 of b (no tcp port does)"), "{said}");
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3 for a TCP server");
        return;
    }
    let mut serving = serve(&place, "b", "s=socket.create_server(('0.0.0.0',7070))");
    let said = text(&place.output(&["why", "a", "b:80"]).stdout);
    assert!(said.contains("nothing listens on port 80 of b (tcp port 7070 does)"), "{said}");
    assert!(place.hop(&["why", "a", "b:7070/tcp"]).starts_with("YES a -> "));
    drop(serving.stdin.take());
    assert!(serving.wait().unwrap().success());
}

#[test]
fn what_cannot_be_asked_is_said() {
    let place = Place::new();
    let yaml =
        format!("name: {}\nlinks:\n  - {{ endpoints: [a, b], ipv4: [10.0.0.1/24, 10.0.0.2/24] }}\n", unique("ask"));
    place.hop(&["up", &place.file("ask.hop.yaml", &yaml)]);
    assert!(place.fails(2, &["why", "a", "c"]).contains("has no node `c`"));
    assert!(place.fails(2, &["why", "c", "a"]).contains("has no node `c`"));
    for (words, hint) in [
        (&["a", "b:http"][..], "`http` is no port in `b:http`\nhint: a port is a number"),
        (&["a", "b:80/sctp"], "hint: allowed are `tcp` and `udp`"),
        (&["a:80", "b"], "hint: write `a`: the port from which it sends"),
        (&["10.0.0.1", "b"], "hint: 10.0.0.1 is an address of a: write that name"),
        (&["a", "b/80"], "hint: write `b:80` for a port"),
        (&["a", "10.0.0.2/24"], "hint: write `10.0.0.2`: a packet goes to one address"),
        (&["a", "[b]:80"], "hint: write `b:80` if that is a node"),
    ] {
        let said = place.fails(2, &[&["why"], words].concat());
        assert!(said.contains(hint), "{words:?}: {said}");
    }
    let output = place.output(&["why", "a", "192.0.2.1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("No node has the address 192.0.2.1."), "{}", text(&output.stdout));
}

/// What has an address itself means itself by it: of the loopback, every node.
#[test]
fn an_address_of_the_loopback_is_the_senders_own() {
    let place = Place::new();
    let name = unique("own");
    let yaml = format!("name: {name}\nlinks: [a -- b]\n");
    place.hop(&["up", &place.file("own.hop.yaml", &yaml)]);
    for dst in ["127.0.0.1", "127.9.9.9", "::1"] {
        says(
            &place,
            0,
            &["--no-probe", "b", dst],
            &format!(
                "\
YES b -> {dst} (b) icmp: there and back, 1 node
 there 1 b  delivered  kernel agrees
 back  1 b  delivered  kernel agrees
"
            ),
        );
        let said = place.hop(&["why", "b", dst]);
        assert!(said.starts_with(&format!("YES b -> {dst} (b) icmp: there and back, 1 node\n")), "{said}");
    }
    // A node of the lab that the sender is of.
    let (from, to) = (format!("{name}/a"), format!("{name}/b"));
    assert!(place.hop(&["why", &from, &to]).starts_with("YES a -> "));
    assert!(place.hop(&["why", "a", &to]).starts_with("YES a -> "));
    let output = place.output(&["why", &from, &format!("{to}:80")]);
    assert!(text(&output.stdout).contains("nothing listens on port 80 of b"), "{}", text(&output.stderr));
    assert!(place.fails(2, &["why", &from, "other/b"]).contains("has no node `other/b`"));
    for (dst, expected) in [
        ("224.0.0.1", "224.0.0.1 is for a group of nodes: `hop why` follows a packet to one node"),
        ("255.255.255.255:80/udp", "255.255.255.255 is for a group of nodes"),
        ("0.0.0.0", "0.0.0.0 is no node's address"),
        ("ff02::1", "ff02::1 is for a group of nodes"),
        ("::", ":: is no node's address"),
    ] {
        let beside = place.fails(2, &["why", "a", dst]);
        assert!(beside.contains(expected), "{beside}");
    }
}

#[test]
fn a_datagram_that_nobody_answers_is_not_said_to_come_back() {
    let place = Place::new();
    let yaml =
        format!("name: {}\nlinks:\n  - endpoints: [a, b]\n    ipv4: [10.0.3.1/24, 10.0.3.2/24]\n", unique("mute"));
    place.hop(&["up", &place.file("mute.hop.yaml", &yaml)]);
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3 for a UDP server");
        return;
    }
    let mut serving = serve(&place, "b", "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('0.0.0.0',92))");
    let said = place.hop(&["why", "a", "b:92/udp"]);
    assert!(
        said.starts_with(
            "YES a -> 10.0.3.2 (b) udp port 92: it arrives; no answer was seen (a program need not give one)\n"
        ),
        "{said}"
    );
    // What was computed alone says what would become of one.
    let said = place.hop(&["why", "--no-probe", "a", "b:92/udp"]);
    assert!(said.starts_with("YES a -> 10.0.3.2 (b) udp port 92: there and back, 2 nodes\n"), "{said}");
    drop(serving.stdin.take());
    assert!(serving.wait().unwrap().success());
}

/// A node that has asked in vain drops what waits for the neighbour when it gives up; whoever looks in that second is not
/// told that no answer comes.
#[test]
fn an_answer_that_waited_for_what_was_asked_in_vain_is_asked_for_once_more() {
    let place = Place::new();
    bare(&place);
    let h1 = text(&place.output(&["exec", "h1", "--", "cat", "/sys/class/net/eth0/address"]).stdout);
    run(&place, "r1", "ip link set dev eth0 arp off");
    run(&place, "h1", "ping -c1 -W1 10.0.1.1 >/dev/null & :");
    wait_until("the last question", || {
        let table = place.output(&["exec", "h1", "--", "ip", "-s", "neigh", "show", "10.0.1.1"]);
        // It begins to count at 3, for those that it would ask by their Ethernet address (ucast_solicit).
        text(&table.stdout).contains("probes 6")
    });
    run(&place, "r1", "ip link set dev eth0 arp on");
    // It speaks to h1 without asking, so that h1 learns nothing by it.
    run(&place, "r1", &format!("ip neigh replace 10.0.1.2 dev eth0 lladdr {} nud permanent", h1.trim()));
    let output = place.output(&["why", "r1", "10.0.1.2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

/// Loads rules into a node, in the place of those it has. Each is a chain of table `inet fw`.
fn filter(place: &Place, node: &str, chains: &str) {
    let rules = place.file("rules.nft", &format!("flush ruleset\ntable inet fw {{\n{chains}\n}}\n"));
    place.hop(&["exec", node, "--", "nft", "-f", &rules]);
}

/// What the firewall does is read from the kernel's own instructions, and each rule that decides is named.
#[test]
fn the_firewall_is_followed_rule_by_rule() {
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: no nft to load rules");
        return;
    }
    let place = Place::new();
    let yaml = format!("name: {}\nlinks: [a -- r -- b]\n", unique("fw"));
    place.hop(&["up", &place.file("fw.hop.yaml", &yaml)]);
    let hook = |name: &str, policy: &str, rules: &str| {
        format!("chain {name} {{\ntype filter hook {name} priority 0; policy {policy};\n{rules}\n}}\n")
    };
    let established = "ct state established,related accept";
    let sets = "tcp dport { 80, 443 } accept";
    // Where, what, to whom; the status and a piece of the answer.
    let cases: [(&str, String, &[&str], i32, &str); 15] = [
        (
            "r",
            hook("forward", "accept", "ip protocol icmp counter drop"),
            &["a", "b"],
            1,
            "chain inet fw forward (forward)",
        ),
        ("r", hook("forward", "accept", "ip protocol icmp counter drop"), &["-6", "a", "b"], 0, "YES"),
        (
            "r",
            hook("forward", "drop", "tcp dport 22 accept"),
            &["a", "b"],
            1,
            "firewall of r drops it: the policy of chain",
        ),
        (
            "r",
            hook("forward", "drop", "tcp dport 22 accept"),
            &["a", "b:22"],
            1,
            "Then nothing listens on port 22 of b (no tcp port does).",
        ),
        ("r", hook("forward", "drop", &format!("{established}\niifname eth0 accept")), &["a", "b"], 0, "YES"),
        ("r", hook("forward", "drop", &format!("{established}\niif eth0 oif eth1 accept")), &["a", "b"], 0, "YES"),
        (
            "r",
            hook("forward", "drop", &format!("{established}\niifname eth0 accept")),
            &["b", "a"],
            1,
            "the policy of chain",
        ),
        ("r", hook("forward", "accept", "ip ttl < 10 drop\nip daddr 192.0.2.0/24 drop"), &["a", "b"], 0, "YES"),
        (
            "b",
            hook("input", "accept", "icmp type echo-request reject"),
            &["a", "b"],
            1,
            "the firewall of b rejects it: the rule with handle ",
        ),
        (
            "b",
            hook("input", "accept", "icmpv6 type echo-request drop"),
            &["-6", "a", "b"],
            1,
            "the firewall of b drops it",
        ),
        (
            "b",
            hook("output", "accept", "icmp type echo-reply drop"),
            &["a", "b"],
            1,
            "it arrives, but the firewall of b drops",
        ),
        ("a", hook("output", "accept", "ip daddr 10.0.0.0/8 drop"), &["a", "b"], 1, "chain inet fw output (output)"),
        ("a", hook("prerouting", "drop", ""), &["a", "b"], 1, "it arrives, but the firewall of a drops it"),
        (
            "r",
            format!("chain more {{ meta l4proto icmp drop; }}\n{}", hook("forward", "accept", "jump more")),
            &["a", "b"],
            1,
            "chain inet fw more (forward)",
        ),
        // What a set does not have goes on.
        ("r", hook("forward", "accept", &format!("{sets}\nmeta l4proto icmp accept")), &["a", "b"], 0, "YES"),
    ];
    for (node, chains, args, status, piece) in cases {
        for other in ["a", "r", "b"] {
            place.hop(&["exec", other, "--", "nft", "flush", "ruleset"]);
        }
        filter(&place, node, &chains);
        let output = place.output(&[&["why"], args].concat());
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{chains}{args:?}: {said}{}", text(&output.stderr));
        assert!(said.contains(piece), "{chains}{args:?}: {said}");
        if status == 1 && !said.contains("nothing listens") && args.len() == 2 && args[1] == "b" {
            follow(&place, &["-4", args[0], args[1]]);
        }
    }
    // What cannot be followed is said, and the packet tells.
    filter(&place, "r", &hook("forward", "accept", "limit rate 1/hour burst 2 packets accept\ndrop"));
    let first = text(&place.output(&["why", "a", "b"]).stdout);
    assert!(
        first.starts_with("YES") && first.contains("the probe was answered; not known what r does: handle "),
        "{first}"
    );
    let output = place.output(&["why", "a", "b"]);
    let second = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{second}");
    assert!(second.starts_with("NO ") && second.contains("`limit` depends on more than the packet"), "{second}");
    assert!(
        second.contains("the firewall of r drops it: the rule with handle 3 of chain inet fw forward (forward)\n"),
        "{second}"
    );
    assert!(second.contains("; traced: handle 3 of inet fw forward drops it"), "{second}");
}

#[test]
fn a_sender_that_is_never_told_what_fits_is_told_here() {
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: no nft to load rules");
        return;
    }
    let place = Place::new();
    let yaml = format!("name: {}\nlinks: [a -- r1 -- r2 -- b]\n", unique("pmtud"));
    place.hop(&["up", &place.file("pmtud.hop.yaml", &yaml)]);
    for (node, dev) in [("r2", "eth1"), ("b", "eth0")] {
        run(&place, node, &format!("ip link set {dev} mtu 1280"));
    }
    let ask = |family: &str, reason: &str, words: &str| {
        let output = place.output(&["why", family, "--size", "1400", "--json", "a", "b"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["verdict"]["reason"], reason, "{json:#}");
        assert_eq!(json["verdict"]["node"], "r2", "{json:#}");
        assert!(json["verdict"]["text"].as_str().unwrap().contains(words), "{json:#}");
        // What packets do is what the model says.
        assert_eq!(output.status.code(), Some(1), "{json:#}");
    };
    for family in ["-4", "-6"] {
        ask(family, "mtu", "1400 bytes do not fit through r2's eth1, whose MTU is 1280");
    }
    let table = "table inet fw { chain forward { type filter hook forward priority 0; policy accept; \
        icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }";
    run(&place, "r1", &format!("nft '{table}'"));
    for family in ["-4", "-6"] {
        ask(family, "pmtud-blackhole", "the ICMP error about it ends at r1 (firewall)");
    }
}

#[test]
fn what_is_counted_and_who_is_asked_is_told_to_programs_too() {
    let place = Place::new();
    bare(&place);
    run(&place, "h1", FORTH);
    let seen = |to: &str, hop: usize| {
        let output = place.output(&["why", "--json", "h1", to]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["there"][hop]["evidence"]["seen"].clone()
    };
    assert_eq!(seen("10.0.2.2", 1)["counters"]["InAddrErrors"], 1);
    // Nobody has that address.
    let asked = &seen("10.0.1.77", 0)["asked"];
    assert_eq!(asked[0]["address"], "10.0.1.77", "{asked}");
    assert!(asked[0]["times"].as_u64().unwrap() >= 1, "{asked}");
    assert_eq!(asked[0]["answers"].as_array().unwrap().len(), 0, "{asked}");
}
