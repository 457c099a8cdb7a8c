//! Nothing is left behind. Alone in its file, for it counts what the whole process has open.
// Helpers of tests may do what tests may do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use hopyard_kernel::World;
use hopyard_net::Op;
use support::{apply, parse, realms, up, veth};

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn host_links() -> Vec<String> {
    let mut links: Vec<_> = std::fs::read_to_string("/proc/net/dev")
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim().to_owned()))
        .collect();
    links.sort();
    links
}

#[test]
fn nothing_is_left_behind() {
    let realms = realms();
    let (files, links) = (open_files(), host_links());
    for (how, realm) in realms {
        let before = open_files();
        let mut world = World::new(realm.clone());
        let name = |i: usize| format!("n{i}");
        let mut ops: Vec<Op> = (0..20).map(|i| Op::AddNs(parse(&name(i)))).collect();
        ops.extend((1..20).map(|i| veth(&format!("n{}:r", i - 1), &format!("n{i}:l"))));
        ops.extend((1..20).flat_map(|i| [up(&format!("n{}:r", i - 1)), up(&format!("n{i}:l"))]));
        apply(&mut world, &ops);
        assert_eq!(open_files(), before + 20, "{how}: one descriptor for each node");
        assert_eq!(host_links(), links, "{how}: the host sees nothing of it");
        drop(world);
        assert_eq!(open_files(), before, "{how}");
    }
    assert_eq!(open_files(), files);
    assert_eq!(host_links(), links);
}
