//! What a process finds around it besides its network: files, variables, and the sockets that both lead to.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hopyard_kernel::rights;
use hopyard_kernel::sandbox::{GATE_ADDRESSES, Reached, reached};

use crate::view::nsswitch_text;

/// Variables that lead to a service outside, and what they begin with.
const VARIABLES: [&str; 33] = [
    "ALACRITTY_SOCKET",
    "CONTAINER_HOST",
    "CONTAINER_SSHKEY",
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "DESKTOP_STARTUP_ID",
    "DISPLAY",
    "DOCKER_HOST",
    "GNOME_KEYRING_CONTROL",
    "GPG_AGENT_INFO",
    "HYPRLAND_INSTANCE_SIGNATURE",
    "I3SOCK",
    "ICEAUTHORITY",
    "KITTY_LISTEN_ON",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "NVIM",
    "NVIM_LISTEN_ADDRESS",
    "PIPEWIRE_REMOTE",
    "PULSE_SERVER",
    "SESSION_MANAGER",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "STY",
    "SWAYSOCK",
    "TMUX",
    "VSCODE_GIT_IPC_HANDLE",
    "VSCODE_IPC_HOOK",
    "VSCODE_IPC_HOOK_CLI",
    "WAYLAND_DISPLAY",
    "WAYLAND_SOCKET",
];

/// Takes away what leads to a service outside: the variables known for it, and any other that names a socket.
pub(super) fn clear_environment(command: &mut Command) {
    for (name, value) in env::vars_os() {
        if VARIABLES.iter().any(|known| name == *known) || names_socket(&value) {
            command.env_remove(name);
        }
    }
    // The sandbox is in no lab.
    command.env_remove("HOP_LAB").env_remove("HOP_NODE");
}

/// Is there a path of a socket in it, as in `unix:path=/run/user/1000/bus,guid=…` or `/tmp/ssh-x/agent.1`?
fn names_socket(value: &OsStr) -> bool {
    let bytes = value.as_bytes();
    let Some(start) = bytes.iter().position(|&byte| byte == b'/') else { return false };
    let path = bytes[start..].split(|byte| matches!(byte, b',' | b';')).next().unwrap_or_default();
    // Of unix:///path the first two are not the path's.
    let path = OsStr::from_bytes(path).to_owned();
    let is_socket = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    is_socket(Path::new(&path))
}

/// Directories in which services of a session make their sockets, and what is reached of the machine now.
pub(super) fn covers() -> io::Result<(Vec<PathBuf>, Reached)> {
    let mut dirs: Vec<PathBuf> = ["/tmp/.X11-unix", "/tmp/.ICE-unix", "/tmp/.font-unix", "/tmp/.XIM-unix"]
        .map(PathBuf::from)
        .into_iter()
        .collect();
    dirs.push(format!("/tmp/hopyard-{}", rights::user_id()).into());
    dirs.push(format!("/tmp/tmux-{}", rights::user_id()).into());
    let named = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
    // /run is another one anyway.
    dirs.extend(named("XDG_RUNTIME_DIR").filter(|dir| !dir.starts_with("/run") && dir != Path::new("/")));
    dirs.sort();
    dirs.dedup();
    // In these there are also files that a command may need, so their sockets are covered one by one.
    let mut shared = vec![PathBuf::from("/tmp/screens")];
    shared.extend(named("SCREENDIR"));
    // Labs are as good as services: who reaches their keepers ends them.
    shared.extend(env::var_os("HOPYARD_DIR").and_then(|dir| std::path::absolute(dir).ok()));
    shared.extend(named("TMUX_TMPDIR").map(|dir| dir.join(format!("tmux-{}", rights::user_id()))));
    shared.extend(named("GNUPGHOME"));
    if let Some(home) = named("HOME") {
        shared.extend([".ssh", ".gnupg", ".screen"].map(|dir| home.join(dir)));
    }
    Ok((dirs, reached(&shared)?))
}

/// Files of /etc that are the sandbox's own.
pub(super) fn etc_files(gate: bool) -> [(&'static str, String); 3] {
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = own.trim();
    let hosts = format!("127.0.0.1\tlocalhost {own}\n::1\tlocalhost ip6-localhost ip6-loopback {own}\n");
    let resolver = if gate {
        format!("# The sandbox's resolver: it knows the names that are allowed.\nnameserver {}\n", GATE_ADDRESSES.0)
    } else {
        "# The sandbox has no resolver: it reaches nothing.\n".to_owned()
    };
    [("hosts", hosts), ("nsswitch.conf", nsswitch_text()), ("resolv.conf", resolver)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn a_variable_that_names_a_socket_is_told_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let path = path.display();
        for value in [format!("{path}"), format!("unix:path={path},guid=1"), format!("unix:{path}")] {
            assert!(names_socket(&OsString::from(&value)), "{value}");
        }
        for value in ["", "x", "/", "/tmp", "http://example.org/"] {
            assert!(!names_socket(OsStr::new(value)), "{value}");
        }
        assert!(!names_socket(&OsString::from(format!("{}", dir.path().display()))));
    }
}
