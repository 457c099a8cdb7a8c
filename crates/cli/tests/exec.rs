//! What a process in a node finds, and what passes between it and its caller.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::Stdio;

use common::{Place, is_root, text, unique, wait_until};

fn lab(place: &Place) -> String {
    let name = unique("exec");
    place.hop(&["up", "home -- near -- far", "--name", &name]);
    name
}

#[test]
fn names_of_all_nodes_resolve_in_every_node() {
    let place = Place::new();
    lab(&place);
    for node in ["home", "near", "far"] {
        for other in ["home", "near", "far"] {
            let found = place.hop(&["exec", node, "getent", "ahosts", other]);
            assert!(!found.is_empty(), "{other} in {node}");
        }
    }
    assert_eq!(place.hop(&["exec", "near", "hostname"]), "near\n");
}

#[test]
fn the_hosts_resolver_does_not_leak_in_when_it_is_renamed_over() {
    let place = Place::new();
    lab(&place);
    let resolver = place.hop(&["exec", "near", "cat", "/etc/resolv.conf"]);
    assert!(resolver.starts_with("# The lab"), "{resolver}");
    let nsswitch = place.hop(&["exec", "near", "cat", "/etc/nsswitch.conf"]);
    assert!(nsswitch.contains("hosts:\tfiles dns\n"), "{nsswitch}");
    // What NetworkManager and others do to the file; only root can.
    if is_root() {
        let host = "/etc/resolv.conf";
        let before = std::fs::read(host).unwrap_or_default();
        let was_link = std::fs::read_link(host).ok();
        if was_link.is_none()
            && std::fs::write("/etc/resolv.conf.hopyard-test", &before).is_ok()
            && std::fs::rename("/etc/resolv.conf.hopyard-test", host).is_ok()
        {
            assert_eq!(place.hop(&["exec", "near", "cat", "/etc/resolv.conf"]), resolver);
        }
        std::fs::remove_file("/etc/resolv.conf.hopyard-test").ok();
    }
}

/// New namespaces have what the machine's first one has at the moment, and containers and other labs change that at any time.
#[test]
fn whether_the_machine_forwards_is_nothing_to_a_lab() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let setting = "/proc/sys/net/ipv4/conf/default/forwarding";
    let before = std::fs::read(setting).unwrap();
    std::fs::write(setting, "1").unwrap();
    let up = place.output(&["up", "a -- r -- b", "--name", &unique("forwards")]);
    std::fs::write(setting, before).unwrap();
    assert!(up.status.success(), "{}", text(&up.stderr));
    for (node, forwards) in [("a", "0\n"), ("r", "1\n"), ("b", "0\n")] {
        assert_eq!(place.hop(&["exec", node, "cat", "/proc/sys/net/ipv4/conf/eth0/forwarding"]), forwards, "{node}");
    }
}

/// As in a container, or below a Proxmox host's /etc/pve: a user namespace may not see what is below those mounts.
#[test]
fn what_is_mounted_in_etc_is_no_hindrance_to_who_is_not_root() {
    let place = Place::new();
    let hop = env!("CARGO_BIN_EXE_hop");
    let inside = place.file(
        "inside",
        "#!/bin/sh -eu
         hop exec near getent hosts far
         [ -e /etc/passwd ] && hop exec near [ -e /etc/passwd ]
         hop exec near sh -ec 'echo 192.0.2.7 seven >/etc/hosts.new; mv /etc/hosts.new /etc/hosts; getent hosts seven'
         ! hop exec near sh -c 'echo >>/etc/passwd'
         hop sandbox sh -c '! touch /etc/hosts && ! grep -q seven /etc/hosts && echo closed'",
    );
    let outside = place.file(
        "outside",
        "#!/bin/sh -eu
         for file in /etc/hostname /etc/resolv.conf; do mount --bind \"$INSIDE\" $file; done
         exec unshare --user --map-user=1000 --map-group=1000 hop run 'home -- near -- far' -- sh \"$INSIDE\"",
    );
    let bin = std::path::Path::new(hop).parent().unwrap().display();
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", &outside]).env("INSIDE", &inside);
    command.env("HOPYARD_DIR", place.records()).env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
    let output = command.output().unwrap();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("far") && said.contains("192.0.2.7") && said.ends_with("closed\n"), "{said}{errors}");
}

#[test]
fn sysfs_is_the_nodes_and_what_is_mounted_below_stays() {
    let place = Place::new();
    lab(&place);
    assert_eq!(place.hop(&["exec", "near", "ls", "/sys/class/net"]), "eth0\neth1\nlo\n");
    let mounts = |table: &str| {
        let mut points: Vec<String> = table
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| point.starts_with("/sys/"))
            .map(str::to_owned)
            .collect();
        points.sort();
        points.dedup();
        points
    };
    let host = mounts(&std::fs::read_to_string("/proc/mounts").unwrap());
    assert_eq!(mounts(&place.hop(&["exec", "near", "cat", "/proc/mounts"])), host);
}

#[test]
fn directory_environment_and_exit_status_pass_through() {
    let place = Place::new();
    let name = lab(&place);
    let run = |args: &[&str]| place.command(args).current_dir("/usr").output().unwrap();
    assert_eq!(text(&run(&["exec", "near", "pwd"]).stdout), "/usr\n");
    assert_eq!(text(&run(&["exec", "-C", "/var", "near", "pwd"]).stdout), "/var\n");
    let output = run(&["exec", "-e", "A=b c", "-e", "HOME", "near", "sh", "-c", "echo $A-$HOME-$HOP_LAB-$HOP_NODE"]);
    assert_eq!(text(&output.stdout), format!("b c--{name}-near\n"));
    assert_eq!(run(&["exec", "near", "sh", "-c", "exit 42"]).status.code(), Some(42));
    assert_eq!(run(&["exec", "near", "sh", "-c", "kill -SEGV $$"]).status.code(), Some(139));
    let output = run(&["exec", "near", "no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(text(&output.stderr), "error: cannot run `no-such-command`: not found\n");
    assert_eq!(run(&["exec", "near", "/etc/passwd"]).status.code(), Some(126));
}

/// dash gives the terminal back when it ends, and fails where it found it with a group that has no number in the lab. What a
/// shell leaves in its own group keeps that one in front.
#[test]
fn a_shell_has_the_terminal_and_gives_it_back() {
    use std::io::Write;
    let place = Place::new();
    let name = lab(&place);
    // One that leaves a process behind, in its own group.
    let leaving = place.file("leaving", "#!/bin/sh\nsleep 60 </dev/null >/dev/null 2>&1 &\nexec sh");
    std::fs::set_permissions(&leaving, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for shell in ["/bin/sh", "bash", &leaving] {
        let typed = format!(
            "{} shell -l {name} -s {shell} near; echo \"ended $?\"; read line; echo \"got $line\"",
            env!("CARGO_BIN_EXE_hop")
        );
        // A terminal of its own, on which somebody types.
        let mut command = std::process::Command::new("script");
        command.args(["--quiet", "--command", &typed, "/dev/null"]).env("SHELL", "/bin/sh").env("PS1", "");
        command.env("HOPYARD_DIR", place.records()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else { return println!("skipped: there is no `script`") };
        child.stdin.take().unwrap().write_all(b"hostname; set +m; sleep 100 & exit 7\nmore\n").unwrap();
        let said = text(&child.wait_with_output().unwrap().stdout);
        assert!(said.contains("near\r\n") && said.contains("ended 7\r\n"), "{shell}: {said}");
        assert!(said.contains("got more\r\n"), "who called the shell reads from the terminal again: {said}");
        assert!(!said.contains("process group"), "{shell}: {said}");
    }
}

#[test]
fn a_shell_that_is_stopped_is_a_job_of_who_called_it() {
    use std::io::Write;
    let place = Place::new();
    let name = lab(&place);
    let mut command = std::process::Command::new("script");
    command.args(["--quiet", "--command", "/bin/sh -i", "/dev/null"]).env("SHELL", "/bin/sh").env("PS1", "");
    command.env("HOPYARD_DIR", place.records()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return println!("skipped: there is no `script`") };
    let hop = env!("CARGO_BIN_EXE_hop");
    // Each line is read by the shell that has the terminal then.
    let typed = format!(
        "{hop} shell -l {name} -s /bin/sh near\nkill -STOP $$\necho \"of $(hostname | grep -cx near)\"; fg >/dev/null\n\
         echo \"in $(hostname)\"; exit 7\necho \"ended $?\"; exit\n"
    );
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let said = text(&child.wait_with_output().unwrap().stdout);
    let place_of = |what: &str| said.find(what).unwrap_or_else(|| panic!("no {what}: {said}"));
    assert!(place_of("of 0\r\n") < place_of("in near\r\n"), "{said}");
    assert!(place_of("in near\r\n") < place_of("ended 7\r\n"), "{said}");
}

#[test]
fn a_command_in_the_background_leaves_the_terminal_to_who_has_it() {
    let place = Place::new();
    let name = lab(&place);
    let typed = place.file(
        "typed",
        "set -m
         cd \"$(dirname \"$0\")\"
         $HOP exec -l $LAB near sh -c ': >started; until [ -e go ]; do :; done' &
         until [ -e started ]; do :; done
         sh -c ': >go; while kill -0 '$!' 2>/dev/null; do :; done; ps -o pgid=,tpgid= -p $$'",
    );
    let mut command = std::process::Command::new("script");
    command.args(["--quiet", "--command", &format!("bash {typed}"), "/dev/null"]).env("SHELL", "/bin/sh");
    command.env("HOP", env!("CARGO_BIN_EXE_hop")).env("LAB", name).env("HOPYARD_DIR", place.records());
    let Ok(output) = command.stdin(Stdio::null()).output() else { return println!("skipped: there is no `script`") };
    let said = text(&output.stdout);
    let groups: Vec<&str> = said.lines().last().unwrap_or_default().split_whitespace().collect();
    assert!(groups.len() == 2 && groups[0] == groups[1], "it is not in front any more: {said}");
}

#[test]
fn standard_streams_pass_through() {
    use std::io::Write;
    let place = Place::new();
    lab(&place);
    let mut child =
        place.command(&["exec", "near", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "through");
}

#[test]
fn signals_reach_the_command_and_a_killed_hop_leaves_none() {
    let place = Place::new();
    lab(&place);
    let spawn = |script: &str| {
        let mut child = place.command(&["exec", "near", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        child
    };
    let kill = |signal: &str, pid: u32| {
        assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    };
    let mut child = spawn("trap 'exit 9' TERM; echo; while :; do sleep 0.01; done");
    kill("-TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(9));

    let mut child = spawn("echo; exec sleep 1000.25");
    let running = || {
        text(&std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap().stdout).contains("sleep 1000.25")
    };
    assert!(running());
    kill("-KILL", child.id());
    child.wait().unwrap();
    wait_until("the command has ended with its hop", || !running());
}

#[test]
fn down_ends_what_runs_in_the_lab() {
    let place = Place::new();
    lab(&place);
    let script = "setsid sleep 1000.75 >/dev/null 2>&1 </dev/null & echo";
    place.hop(&["exec", "near", "sh", "-c", script]);
    let running = || {
        text(&std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap().stdout).contains("sleep 1000.75")
    };
    wait_until("the daemon runs", running);
    place.hop(&["down"]);
    assert!(!running(), "a process of the lab has outlived it");
}

#[test]
fn the_callers_identity_passes_through() {
    let place = Place::new();
    lab(&place);
    assert_eq!(place.hop(&["exec", "near", "id", "-u"]), "0\n");
    // A file made inside belongs to whoever ran hop.
    let file = place.path().join("made-inside");
    place.hop(&["exec", "near", "touch", &file.display().to_string()]);
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&file).unwrap());
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(place.path()).unwrap());
    assert_eq!(owner, own);
    let user = if is_root() { "nobody".to_owned() } else { own.to_string() };
    let output = place.output(&["exec", "--user", &user, "near", "sh", "-c", "id -u; ip link set eth0 down"]);
    let expected = if is_root() { "65534\n".to_owned() } else { format!("{own}\n") };
    assert_eq!(text(&output.stdout), expected);
    assert!(!output.status.success(), "another user can take a link down");
}

#[test]
fn unknown_names_are_explained() {
    let place = Place::new();
    lab(&place);
    let said = place.fails(2, &["exec", "nera", "true"]);
    assert!(said.contains("has no node `nera`") && said.contains("did you mean `near`?"), "{said}");
    let said = place.fails(2, &["exec", "no-such-lab/near", "true"]);
    assert!(said.contains("no lab `no-such-lab` is running"), "{said}");
    // To the kernel that number says that the user is to stay who it is: root.
    let said = place.fails(2, &["exec", "--user", "4294967295", "near", "true"]);
    assert!(said.contains("there is no user `4294967295`"), "{said}");
    let said = place.fails(2, &["exec", "--user", "no-such-user", "near", "true"]);
    assert!(said.contains("there is no user `no-such-user`"), "{said}");
    let said = place.fails(2, &["exec", "../../etc/near", "true"]);
    assert!(said.contains("lab name"), "{said}");
}

#[test]
fn a_switch_is_not_taken_for_a_node() {
    let place = Place::new();
    let name = unique("switch");
    place.hop(&["up", "star:2", "--name", &name]);
    for args in [["ping", "n1", "hub"], ["ping", "hub", "n1"], ["why", "n1", "hub"], ["why", "hub", "n1"]] {
        let said = place.fails(2, &args);
        assert!(said.contains(&format!("`hub` is a switch of lab `{name}`")), "{args:?}: {said}");
    }
}
