//! `hop check` on real labs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use common::{Place, text, unique};

/// Both families, routed, with a switch in the middle.
fn routed(place: &Place) -> String {
    let name = unique("check");
    let file = place.file(
        "lab.hop.yaml",
        &format!("name: {name}\nnodes:\n  a:\n  r:\n  b:\nlinks:\n  - a:eth0 -- r:eth0\n  - r:eth1 -- b:eth0\nrouting: auto\n"),
    );
    place.hop(&["up", &file]);
    name
}

#[track_caller]
fn check(place: &Place, args: &[&str]) -> (String, Option<i32>) {
    let args: Vec<&str> = ["check"].iter().chain(args).copied().collect();
    let output = place.output(&args);
    assert_eq!(text(&output.stderr), "");
    (text(&output.stdout), output.status.code())
}

#[test]
fn all_pairs_of_a_routed_lab_reach_each_other_as_predicted() {
    let place = Place::new();
    let name = routed(&place);
    let name = name.as_str();
    for args in [&[][..], &[name], &["-l", name], &["--no-probe"]] {
        let (said, status) = check(&place, args);
        assert!(said.starts_with("a    . .\nr  .   .\nb  . .\n12 of 12 pairs reach each other, "), "{said}");
        assert_eq!(status, Some(0));
    }
    let (said, status) = check(&place, &["-6"]);
    assert!(said.contains("6 of 6 pairs"), "{said}");
    assert_eq!(status, Some(0));
}

#[test]
fn who_answers_no_ping_and_who_sends_not_far_is_foreseen() {
    let place = Place::new();
    routed(&place);
    place.hop(&["exec", "b", "--", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"]);
    place.hop(&["exec", "a", "--", "sysctl", "-qw", "net.ipv4.ip_default_ttl=1"]);
    let (said, status) = check(&place, &["-4"]);
    assert!(said.starts_with("a    . x\nr  .   x\nb  x .\n"), "{said}");
    for cause in [
        "1 pair ends at b: echo-ignored",
        "1 pair ends at r: ttl-expired",
        "1 reply ends at r: ttl-expired",
        "3 of 6 pairs reach each other, as predicted",
    ] {
        assert!(said.contains(cause), "{cause}: {said}");
    }
    assert_eq!(status, Some(1));
    let (said, _) = check(&place, &["-4", "--no-probe"]);
    assert!(said.contains("3 of 6 pairs reach each other"), "{said}");
}

#[test]
fn what_one_family_lacks_is_told_by_its_cause() {
    let place = Place::new();
    routed(&place);
    place.hop(&["exec", "r", "--", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"]);
    let (said, status) = check(&place, &[]);
    assert!(
        said.starts_with("a    . 4\nr  .   .\nb  4 .\n2 pairs end at r: forwarding-off\n   hop why -6 a b   "),
        "{said}"
    );
    assert!(said.contains("10 of 12 pairs reach each other, as predicted"), "{said}");
    assert_eq!(status, Some(1));
    let (said, status) = check(&place, &["--json", "--no-probe"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(status, Some(1));
    assert_eq!((&json["pairs"], &json["reached"]), (&12.into(), &10.into()));
    assert_eq!(json["causes"][0]["reason"], "forwarding-off");
    assert_eq!(json["open"].as_array().unwrap().len(), 2);
    assert_eq!(json["open"][0]["predicted"], false);
}

/// A fault that no snapshot tells: all packets are lost on the wire.
#[test]
fn where_there_is_no_pair_nothing_is_said_to_be_well() {
    let place = Place::new();
    let name = unique("four");
    let yaml = format!("name: {name}\nlinks: [a -- b]\naddressing: {{ ipv6: none }}\n");
    place.hop(&["up", &place.file("four.hop.yaml", &yaml)]);
    assert_eq!(check(&place, &["-6"]), ("nothing was checked: no node has an IPv6 address\n".to_owned(), Some(3)));
    let (said, status) = check(&place, &["-6", "--json"]);
    assert_eq!(
        (status, serde_json::from_str::<serde_json::Value>(&said).unwrap()["pairs"].as_u64()),
        (Some(3), Some(0))
    );
    assert_eq!(check(&place, &["-4"]).1, Some(0));
    place.hop(&["down"]);
    let name = unique("one");
    place.hop(&["up", &place.file("one.hop.yaml", &format!("name: {name}\nnodes: [a]\n"))]);
    let (said, status) = check(&place, &[]);
    assert!(said.ends_with("nothing was checked: a pair takes two nodes\n"), "{said}");
    assert_eq!(status, Some(3));
}

#[test]
fn a_contradiction_is_shown() {
    let place = Place::new();
    routed(&place);
    let lossy =
        place.output(&["exec", "r", "--", "tc", "qdisc", "replace", "dev", "eth1", "root", "netem", "loss", "100%"]);
    let full = [
        "exec", "r", "--", "tc", "qdisc", "replace", "dev", "eth1", "root", "tbf", "rate", "8bit", "burst", "1",
        "limit", "1",
    ];
    if !lossy.status.success() && !place.output(&full).status.success() {
        println!("skipped: no queueing discipline that loses packets: {}", text(&lossy.stderr));
        return;
    }
    let (said, status) = check(&place, &["-4", "-W", "300"]);
    assert!(said.contains("contradiction: a should reach b ("), "{said}");
    assert!(said.starts_with("a    . !\n"), "{said}");
    assert_eq!(status, Some(3));
}

#[test]
fn a_lab_that_is_not_there_is_refused() {
    let place = Place::new();
    let output = place.output(&["check", "no-such-lab"]);
    assert!(text(&output.stderr).contains("no-such-lab"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
}

/// What the plan says of an edit is what packets say when it is made.
#[test]
fn a_plan_says_which_pairs_it_cuts_and_joins() {
    let place = Place::new();
    let name = unique("effect");
    let lab = |more: &str, forward: &str| {
        let text = format!(
            "name: {name}\nnodes:\n  a:\n  r: {forward}\n  b:\n  c:\nlinks:\n  - a:eth0 -- r:eth0\n  - r:eth1 -- b:eth0\n{more}routing: auto\n"
        );
        place.file("lab.hop.yaml", &text)
    };
    place.hop(&["up", &lab("", "")]);
    let plan = |args: &[&str]| {
        let args: Vec<&str> = ["plan"].iter().chain(args).copied().collect();
        let output = place.output(&args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (_, said) = plan(&[&lab("", "")]);
    assert!(!said.contains("this change"), "nothing changes: {said}");

    let file = lab("", "{ forward: false }");
    let (steps, said) = plan(&[&file]);
    assert!(said.contains("\nthis change cuts 2 pairs: a -> b, b -> a\n"), "{said}");
    assert!(!steps.contains("this change"), "what is said is no step: {steps}");
    let (json, _) = plan(&["--json", "--effect", &file]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let cuts = json["cuts"].as_array().unwrap();
    assert_eq!(cuts.len(), 4, "two pairs in two families: {json}");
    assert_eq!(json["joins"].as_array().unwrap().len(), 0);
    place.hop(&["up", &file]);
    let (said, status) = check(&place, &["--json"]);
    let seen: serde_json::Value = serde_json::from_str(&said).unwrap();
    let open = seen["open"].as_array().unwrap();
    let cut = |pair: &serde_json::Value| pair["reached"] == false && pair["from"] != "c" && pair["to"] != "c";
    assert_eq!(open.iter().filter(|pair| cut(pair)).count(), cuts.len(), "{said}");
    assert_eq!(status, Some(1));

    let (_, said) = plan(&[&lab("  - b:eth1 -- c:eth0\n", "")]);
    assert!(said.contains("\nthis change joins 8 pairs: a -> b, a -> c, b -> a, b -> c (4 more)\n"), "{said}");
}

#[test]
fn what_no_model_predicts_is_counted_and_named() {
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: no nft to load rules");
        return;
    }
    let place = Place::new();
    routed(&place);
    let rules = "table ip t { chain f { type filter hook forward priority 0; policy drop; \
                 limit rate 1000/second accept; }; }";
    place.hop(&["exec", "r", "--", "nft", rules]);
    let (said, status) = check(&place, &["-4"]);
    assert!(
        said.contains("6 of 6 pairs reach each other, as predicted; 2 of them could not be predicted, in "),
        "{said}"
    );
    assert_eq!(status, Some(0));
    let (said, status) = check(&place, &["-4", "--no-probe"]);
    assert!(
        said.contains("4 of 6 pairs reach each other, predicted, no packet was sent; 2 of them could not"),
        "{said}"
    );
    assert_eq!(status, Some(3));

    let output = place.output(&["why", "-4", "a", "b"]);
    let said = text(&output.stdout);
    assert!(said.starts_with("YES a -> ") && said.contains("the probe was answered"), "{said}");
    assert!(said.contains(": `limit` depends on more than the packet"), "{said}");
    assert!(said.contains("\n back") && said.contains("  answered") && !said.contains("not reached"), "{said}");
    assert_eq!(output.status.code(), Some(0));
    let output = place.output(&["why", "-4", "a", "b", "--no-probe"]);
    let said = text(&output.stdout);
    assert!(said.starts_with("??? a -> ") && said.contains("not reached"), "{said}");
    assert_eq!(output.status.code(), Some(3));
}
