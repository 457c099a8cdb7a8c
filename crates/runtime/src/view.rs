//! The lab's own files in /etc: names of all nodes, and no resolver but the lab's.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hopyard_kernel::{Process, keeper};
use hopyard_model::LabName;
use hopyard_net::NsName;

use crate::error::{Error, IoContext};

/// Files of a root's lab that services of the machine can be given (`hop unit`), and where each belongs: a mount of
/// the keeper's cannot be bound elsewhere.
pub(crate) const FOR_SERVICES: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("nsswitch.conf", "/etc/nsswitch.conf"), ("resolv.conf", "/etc/resolv.conf")];

/// Writes them through the keeper's eyes, where they cover the host's, and for services into the lab's directory,
/// if that is given.
pub(crate) fn write(
    keeper: &Process,
    dir: Option<&Path>,
    lab: &LabName,
    hosts: &[(NsName, Vec<IpAddr>)],
    resolvers: &[IpAddr],
) -> Result<(), Error> {
    // Whatever the caller's umask: services have users of their own.
    let readable = fs::Permissions::from_mode(0o644);
    for file in keeper::ETC_FILES {
        let text = match file {
            "hosts" => hosts_text(lab, hosts),
            "nsswitch.conf" => nsswitch_text(),
            _ if !resolvers.is_empty() => resolver_text(lab, resolvers),
            _ => format!("# The lab {lab} has no resolver; the names of its nodes are in /etc/hosts.\n"),
        };
        let path = PathBuf::from(format!("/proc/{}/root/etc/{file}", keeper.pid()));
        fs::write(&path, &text).context(|| format!("write /etc/{file} of the lab"))?;
        if let Some(dir) = dir {
            // In place: a service sees the very file.
            let copy = dir.join(file);
            let write = || fs::write(&copy, &text).and_then(|()| fs::set_permissions(&copy, readable.clone()));
            write().context(|| format!("write {}", copy.display()))?;
        }
    }
    Ok(())
}

/// resolv.conf(5).
fn resolver_text(lab: &LabName, resolvers: &[IpAddr]) -> String {
    let mut text = format!("# The resolvers of the host, which the lab {lab} reaches by its uplink.\n");
    for resolver in resolvers {
        // Writing to a String cannot fail.
        writeln!(text, "nameserver {resolver}").ok();
    }
    text
}

/// hosts(5).
fn hosts_text(lab: &LabName, hosts: &[(NsName, Vec<IpAddr>)]) -> String {
    let mut text =
        format!("# Nodes of the lab {lab}.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, addresses) in hosts {
        for address in addresses {
            // Writing to a String cannot fail.
            writeln!(text, "{address}\t{name}").ok();
        }
    }
    text
}

/// nsswitch.conf(5): the host's, except that host names come from files and DNS alone. Modules such
/// as nss-resolve and nss-mdns would ask daemons of the host, around the lab's network.
pub(crate) fn nsswitch_text() -> String {
    let host = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let is_hosts = |line: &&str| line.split_once(':').is_some_and(|(database, _)| database.trim() == "hosts");
    let mut text = String::from("hosts:\tfiles dns\n");
    for line in host.lines().filter(|line| !is_hosts(line)) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_node_has_a_line() {
        let hosts = [("near".parse().unwrap(), vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()])];
        let text = hosts_text(&"three".parse().unwrap(), &hosts);
        assert!(text.contains("10.0.0.1\tnear\nfd00::1\tnear\n"), "{text}");
        assert!(text.contains("127.0.0.1\tlocalhost\n"), "{text}");
    }

    #[test]
    fn host_names_come_from_files_and_dns() {
        let text = nsswitch_text();
        assert!(text.starts_with("hosts:\tfiles dns\n"), "{text}");
        assert_eq!(text.matches("hosts:").count(), 1, "{text}");
    }
}
