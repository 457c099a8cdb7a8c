//! What a topology expects, and whether `hop check` finds it so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use common::{Place, text, unique};
use serde_json::Value;

/// Three hosts around a router; lines of `expect` begin on line 12.
fn star(place: &Place, name: &str, expect: &[&str]) -> String {
    let mut yaml = format!(
        "name: {name}\nnodes:\n  web:\n  db:\n  guest:\n  gate:\nlinks:\n  - web -- gate\n  - db:eth0 -- gate:eth1\n  - guest -- gate\nexpect:\n"
    );
    if expect.is_empty() {
        yaml.push_str("  []\n");
    }
    yaml.extend(expect.iter().map(|line| format!("  - {line}\n")));
    place.file("star.hop.yaml", &yaml)
}

#[track_caller]
fn check(place: &Place, args: &[&str]) -> (String, Option<i32>) {
    let output = place.output(&[&["check"], args].concat());
    assert_eq!(text(&output.stderr), "");
    (text(&output.stdout), output.status.code())
}

fn json(place: &Place, args: &[&str]) -> Value {
    let (said, _) = check(place, &[&["--json"], args].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// What hop is told to type, it can: each ends as it said.
fn follow(place: &Place, said: &str) {
    let commands = said.lines().filter_map(|line| line.strip_prefix("   hop why ")).collect::<Vec<_>>();
    assert!(!commands.is_empty(), "{said}");
    for line in commands {
        // What is wrong may stand behind it.
        let command = line.split("   ").next().unwrap();
        let output = place.output(&[&["why"], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command}: {}", text(&output.stderr));
    }
}

#[test]
fn lines_that_hold_are_counted_and_those_that_do_not_are_named_with_their_place() {
    let place = Place::new();
    let name = unique("expect");
    let lines =
        ["web -> db", "guest -x-> db", "all -> gate", "web -> db:5432", "guest -x-> db:5432", "web -> 192.0.2.1"];
    place.hop(&["up", &star(&place, &name, &lines)]);
    let (said, status) = check(&place, &["-4"]);
    for line in [
        "star.hop.yaml:13: guest -x-> db  does not hold: db answers\n   hop why guest db\n",
        "star.hop.yaml:15: web -> db:5432  does not hold: nothing listens on port 5432 of db (no tcp port does)\n   hop why web db:5432\n",
        // A closed port is no wall.
        "star.hop.yaml:16: guest -x-> db:5432  does not hold: it comes through, although nothing listens on port 5432 of db",
        "star.hop.yaml:17: web -> 192.0.2.1  does not hold: gate has no route to 192.0.2.1\n   hop why web 192.0.2.1\n",
        "2 of 6 expectations hold\n12 of 12 pairs reach each other, as predicted",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(said.starts_with("web      . . .\ndb     .   . .\nguest  . !   .\n"), "{said}");
    assert_eq!(status, Some(1));
    follow(&place, &said);
    let found = json(&place, &["-4"]);
    let line = &found["expectations"][1];
    assert_eq!((&line["expect"], &line["line"], &line["holds"]), (&"guest -x-> db".into(), &13.into(), &false.into()));
    assert_eq!((&line["file"], &line["command"]), (&"star.hop.yaml".into(), &"hop why guest db".into()));
    assert_eq!(found["open"][0]["expected"], "not-reached");
    assert_eq!(found["open"].as_array().unwrap().len(), 1, "{found:#}");

    // The service comes, and who shall not come to it is kept out.
    let server =
        "import socket,sys\ns=socket.create_server(('0.0.0.0',5432))\nprint('ready',flush=True)\nsys.stdin.read()";
    let mut server = place
        .command(&["exec", "db", "--", "/usr/bin/python3", "-c", server])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let guest = text(&place.output(&["exec", "guest", "--", "ip", "-4", "-o", "addr", "show", "eth0"]).stdout);
    let guest = guest.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
    place.hop(&["exec", "db", "--", "ip", "route", "add", "blackhole", &format!("{guest}/32")]);
    let (said, status) = check(&place, &["-4"]);
    assert!(said.contains("\n5 of 6 expectations hold\n"), "{said}");
    assert!(said.contains("guest  . -   ."), "what shall not be reached is no failure: {said}");
    // What db sends to guest ends there too, and no line is about it.
    assert!(said.contains("db     .   x ."), "{said}");
    assert_eq!(status, Some(1));
    let (predicted, status) = check(&place, &["-4", "--no-probe"]);
    assert!(predicted.contains("\n5 of 6 expectations hold\n"), "{predicted}");
    assert_eq!(status, Some(1));

    // Without the line that cannot hold, all is well; the lines are taken over, and nothing else changes.
    let file = star(&place, &name, &lines[..5]);
    let output = place.output(&["check", "-4"]);
    assert!(
        text(&output.stderr).contains("star.hop.yaml expects something else by now; `hop up "),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("\nexpect: web -> 192.0.2.1  does not hold: "), "{}", text(&output.stdout));
    place.hop(&["up", &file]);
    place.hop(&["exec", "db", "--", "ip", "route", "replace", "blackhole", &format!("{guest}/32")]);
    let (said, status) = check(&place, &["-4"]);
    assert!(said.contains("\n5 of 5 expectations hold\n"), "{said}");
    assert_eq!(status, Some(0), "{said}");
    drop(server.stdin.take());
    server.wait().unwrap();
}

#[test]
fn a_line_that_names_more_decides_and_lines_alone_decide_the_status() {
    let place = Place::new();
    let name = unique("expect");
    place.hop(&["up", &star(&place, &name, &["all -x-> all", "web, db -> gate", "all -> db"])]);
    // By IPv6, nothing is wrong but what the first line is about.
    let found = json(&place, &["-6", "--no-probe"]);
    let lines = found["expectations"].as_array().unwrap();
    let numbers = |line: &Value| ["pairs", "broken"].map(|key| line[key].as_u64().unwrap());
    // web and gate asked by all others, but for web and db that ask gate; guest by all.
    assert_eq!(numbers(&lines[0]), [7, 7]);
    assert_eq!(numbers(&lines[1]), [2, 0]);
    assert_eq!(numbers(&lines[2]), [3, 0]);

    // What others decide about all of is not in doubt.
    place
        .hop(&["up", &star(&place, &name, &["guest -> gate", "guest -x-> all", "guest -> web, db", "web -x-> guest"])]);
    let found = json(&place, &["-6", "--no-probe"]);
    let holds: Vec<Option<bool>> =
        found["expectations"].as_array().unwrap().iter().map(|line| line["holds"].as_bool()).collect();
    assert_eq!(holds, [Some(true), Some(true), Some(true), Some(false)], "{found:#}");
    assert_eq!(found["expectations"][1]["pairs"], 0);

    place.hop(&["up", &star(&place, &name, &["web -> db"])]);
    place.hop(&["exec", "guest", "--", "ip", "link", "set", "eth0", "down"]);
    let (said, status) = check(&place, &[]);
    assert!(said.contains("\n1 of 1 expectation holds\n12 of 24 pairs reach each other"), "{said}");
    assert_eq!(status, Some(0), "nothing was said of guest: {said}");
    place.hop(&["up", &star(&place, &name, &[])]);
    place.hop(&["exec", "guest", "--", "ip", "link", "set", "eth0", "down"]);
    let (said, status) = check(&place, &[]);
    assert!(!said.contains("expectation"), "{said}");
    assert_eq!(status, Some(1), "without lines, all shall reach each other: {said}");
}

#[test]
fn a_datagram_that_arrives_is_not_kept_out_by_the_loss_of_its_answer() {
    let place = Place::new();
    let name = unique("expect");
    place.hop(&["up", &star(&place, &name, &["guest -x-> db:53/udp", "guest -x-> db:53/tcp"])]);
    // On no way there.
    place.hop(&["exec", "db", "--", "ip", "route", "add", "blackhole", "10.0.0.0/8"]);
    for probing in [&["-4"][..], &["-4", "--no-probe"]] {
        let (said, status) = check(&place, probing);
        let datagram =
            "guest -x-> db:53/udp  does not hold: it comes through, although nothing listens on port 53 of db";
        assert!(said.contains(datagram), "{said}");
        // Of a connection nothing comes about.
        assert!(said.contains("1 of 2 expectations hold"), "{said}");
        assert_eq!(status, Some(1));
    }
}

#[test]
fn what_cannot_be_tried_is_not_known() {
    let place = Place::new();
    let name = unique("expect");
    let yaml = format!(
        "name: {name}\nnodes: [a, b]\nlinks:\n  - {{ endpoints: [a, b], ipv6: none }}\nexpect: a -> b:80/udp\n"
    );
    place.hop(&["up", &place.file("x.hop.yaml", &yaml)]);
    let (said, status) = check(&place, &["-6"]);
    assert!(said.contains("x.hop.yaml:5: a -> b:80/udp  was not tried: there is no address to send to\n"), "{said}");
    assert_eq!(status, Some(3));
}

/// `isp` is outside of what `gate` hides.
fn behind_nat(expect: &str) -> String {
    format!(
        "nodes:\n  web:\n  gate:\n    nat: {{ masquerade: out, publish: {{ 8080: web:80 }} }}\n  isp:\n\
         links:\n  - {{ endpoints: [web, gate:inn], ipv4: [10.0.0.2/24, 10.0.0.1/24], ipv6: none }}\n  \
         - {{ endpoints: [gate:out, isp], ipv4: [192.0.2.1/24, 192.0.2.2/24], ipv6: none }}\n{expect}"
    )
}

#[test]
fn what_nat_hides_is_as_declared_and_what_it_does_not_hide_is_wrong() {
    let place = Place::new();
    let name = unique("hidden");
    let file = place.file("nat.hop.yaml", &behind_nat(""));
    place.hop(&["up", "--name", &name, &file]);
    let (said, status) = check(&place, &["-4"]);
    assert!(
        said.starts_with(
            "web     . .\ngate  .   .\nisp   - .\n5 of 6 pairs reach each other; 1 is hidden by nat, as predicted"
        ),
        "{said}"
    );
    assert_eq!(status, Some(0));
    let found = json(&place, &["-4"]);
    assert_eq!((&found["hidden"], &found["reached"]), (&1.into(), &5.into()));
    assert_eq!((&found["open"][0]["expected"], &found["open"][0]["to"]), (&"hidden".into(), &"web".into()));
    assert_eq!(found["causes"].as_array().unwrap().len(), 0);

    // A route past it: what answers is not hidden.
    place.hop(&["exec", "isp", "--", "ip", "route", "add", "10.0.0.0/24", "via", "192.0.2.1"]);
    let (said, status) = check(&place, &["-4"]);
    assert!(
        said.contains("isp   ! .\nnot hidden: isp reaches web (10.0.0.2), which is behind the nat of gate\n   hop why isp web\n6 of 6 pairs"),
        "{said}"
    );
    assert_eq!(status, Some(1));
    place.hop(&["exec", "isp", "--", "ip", "route", "del", "10.0.0.0/24"]);

    // Lines about all nodes do not speak of what is hidden; those that name both nodes do.
    let file = place.file("nat.hop.yaml", &behind_nat("expect:\n  - all -> all\n  - isp -> gate:8080\n"));
    place.hop(&["up", "--name", &name, &file]);
    let (said, status) = check(&place, &["-4"]);
    assert!(
        said.contains("nat.hop.yaml:11: isp -> gate:8080  does not hold: nothing listens on port 80 of web"),
        "{said}"
    );
    assert!(said.contains("\n1 of 2 expectations hold\n"), "{said}");
    assert_eq!(status, Some(1));
    // By a port as well: of those that are not hidden, only gate is left to ask.
    let file = place.file("nat.hop.yaml", &behind_nat("expect:\n  - all -> web:80\n  - isp -x-> all:81\n"));
    place.hop(&["up", "--name", &name, &file]);
    let lines = &json(&place, &["-4", "--no-probe"])["expectations"];
    assert_eq!((&lines[0]["pairs"], &lines[0]["broken"]), (&1.into(), &1.into()), "{lines}");
    assert_eq!(lines[1]["pairs"], 2, "{lines}");
    let file = place.file("nat.hop.yaml", &behind_nat("expect: isp -> web\n"));
    place.hop(&["up", "--name", &name, &file]);
    let (said, status) = check(&place, &["-4"]);
    assert!(said.contains("nat.hop.yaml:9: isp -> web  does not hold: isp has no route to 10.0.0.2"), "{said}");
    assert_eq!(status, Some(1));
}

/// What no model can tell the trace does.
#[test]
fn a_rule_that_is_not_understood_keeps_a_packet_out_if_it_was_seen_to() {
    let place = Place::new();
    let name = unique("expect");
    let file = star(&place, &name, &["guest -x-> web:80"]);
    place.hop(&["up", &file]);
    let chain = "chain input { type filter hook input priority 0; }";
    let rule = "add rule inet fw input tcp dport 80 numgen inc mod 2 >= 0 drop";
    place.hop(&["exec", "web", "--", "nft", &format!("table inet fw {{ {chain}; }}; {rule}")]);
    let (said, status) = check(&place, &["-4"]);
    assert_eq!(status, Some(0), "{said}");
    let (said, status) = check(&place, &["-4", "--no-probe"]);
    assert_eq!(status, Some(3), "{said}");
}

/// More than one byte numbers, through a router whose rules let some pass, drop some, and are not understood for others.
#[test]
fn ports_are_tried_many_at_a_time_and_none_is_taken_for_another() {
    let place = Place::new();
    let name = unique("volley");
    let links: Vec<String> = (1..=12).map(|number| format!("  - n{number} -- hub\n")).collect();
    let expect =
        "  - all -x-> n1:80\n  - all -> n2:81\n  - n3 -x-> all:82/udp\n  - all -x-> all:83\n  - all -x-> all:84/udp\n";
    let yaml = format!("name: {name}\nlinks:\n{}expect:\n{expect}", links.concat());
    place.hop(&["up", &place.file("volley.hop.yaml", &yaml)]);
    place.hop(&[
        "exec",
        "hub",
        "--",
        "nft",
        "table inet fw { chain forward { type filter hook forward priority 0; \
         tcp dport 80 drop; udp dport 82 numgen inc mod 2 >= 0 drop; tcp dport 83 drop; udp dport 84 drop; }; }",
    ]);
    let started = std::time::Instant::now();
    let found = json(&place, &[]);
    println!("in {:?}", started.elapsed());
    // One after the other, those that are dropped alone would take a quarter of a second each.
    assert!(started.elapsed() < std::time::Duration::from_mins(1), "{:?}", started.elapsed());
    let counted: Vec<[u64; 3]> = found["expectations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| ["pairs", "broken", "unknown"].map(|key| line[key].as_u64().unwrap()))
        .collect();
    // hub is asked past its own rules for what it forwards, and asks so; by IPv4 and IPv6.
    let expected = [[24, 2, 0], [24, 24, 0], [24, 2, 0], [2 * 13 * 12, 2 * 12 * 2, 0], [2 * 13 * 12, 2 * 12 * 2, 0]];
    assert_eq!(counted, expected, "{found:#}");
    let tables = text(&place.output(&["exec", "hub", "--", "nft", "list", "tables"]).stdout);
    assert_eq!(tables, "table inet fw\n", "nothing is left of the tracing");
}

#[test]
fn hop_why_says_what_the_file_forbids_and_proposes_nothing_against_it() {
    let place = Place::new();
    let name = unique("forbid");
    let yaml = format!(
        "name: {name}\nnodes:\n  web:\n  db: {{ routes: prohibit 10.0.3.0/24 }}\n  guest:\n  gate:\nlinks:\n  \
         - {{ endpoints: [web, gate], ipv4: 10.0.1.0/24 }}\n  - {{ endpoints: [db, gate], ipv4: 10.0.2.0/24 }}\n  \
         - {{ endpoints: [guest, gate], ipv4: 10.0.3.0/24 }}\naddressing: {{ ipv6: none }}\nexpect:\n  \
         - guest -x-> web, db\n  - guest -x-> db:80\n"
    );
    let file = place.file("forbid.hop.yaml", &yaml);
    place.hop(&["up", &file]);
    let why = |args: &[&str]| {
        let output = place.output(&[&["why"], args].concat());
        (text(&output.stdout), output.status.code())
    };
    for args in [&["guest", "db"][..], &["guest", "db", "--fix"], &["guest", "db", "--no-probe"]] {
        let (said, status) = why(args);
        let line = "\nIt is meant to be so, and nothing is to be changed: forbid.hop.yaml:13: guest -x-> web, db\n";
        assert!(said.ends_with(line), "{said}");
        assert!(!said.contains("ip route del"), "{said}");
        assert_eq!(status, Some(1));
    }
    let (said, status) = why(&["guest", "web"]);
    assert!(said.ends_with("\nIt should not come through: forbid.hop.yaml:13: guest -x-> web, db\n"), "{said}");
    assert_eq!(status, Some(0));
    // What would help this pair would open what is forbidden.
    for args in [&["db", "guest"][..], &["db", "guest", "--fix"]] {
        let (said, status) = why(args);
        let lines = "\n forbid.hop.yaml:13: guest -x-> web, db\n forbid.hop.yaml:14: guest -x-> db:80\n";
        assert!(said.contains("\nNo change is proposed: ") && said.ends_with(lines), "{said}");
        assert_eq!(status, Some(1));
    }
    let (said, _) = why(&["db", "guest", "--json"]);
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["fix"], &found["forbidden"]), (&Value::Null, &Value::Null));
    assert_eq!(found["would_break"][1]["line"], 14);
    let routes = || text(&place.output(&["exec", "db", "--", "ip", "route"]).stdout);
    assert!(routes().contains("prohibit 10.0.3.0/24"), "{}", routes());
    // Who is to be answered gets the changes, and is told.
    place.file("forbid.hop.yaml", &format!("{yaml}  - db -> guest\n"));
    place.hop(&["up", &file]);
    let (said, _) = why(&["db", "guest"]);
    assert!(said.contains("\n 1 db  ip route delete 10.0.3.0/24  forbid.hop.yaml:4"), "{said}");
    assert!(
        said.contains("\nThat also lets through what is forbidden here:\n forbid.hop.yaml:13: guest -x-> web, db\n"),
        "{said}"
    );
    // Without those lines there is nothing against it.
    place.file(
        "forbid.hop.yaml",
        &yaml.replace("expect:\n  - guest -x-> web, db\n  - guest -x-> db:80", "expect: web -> db"),
    );
    place.hop(&["up", &file]);
    let (said, status) = why(&["db", "guest", "--fix"]);
    assert!(said.contains("\n 1 db  ip route delete 10.0.3.0/24  forbid.hop.yaml:4"), "{said}");
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn a_lab_is_checked_from_within_hop_run() {
    let place = Place::new();
    let file = star(&place, &unique("expect"), &["web -> db", "guest -x-> db"]);
    let run = |expected: i32, file: &str| {
        let output = place.output(&["run", file, "--", env!("CARGO_BIN_EXE_hop"), "check", "-4"]);
        assert_eq!(output.status.code(), Some(expected), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    assert!(run(1, &file).contains("star.hop.yaml:13: guest -x-> db  does not hold"));
    assert!(run(0, &star(&place, &unique("expect"), &["web -> db"])).contains("\n1 of 1 expectation holds\n"));
    let wrong = star(&place, &unique("expect"), &["web -> dbb"]);
    let said = place.fails(2, &["run", &wrong, "--", "true"]);
    assert!(said.contains("node `dbb` is not declared") && said.contains("star.hop.yaml:12:5"), "{said}");
    assert!(said.contains("did you mean `db`?"), "{said}");
}
