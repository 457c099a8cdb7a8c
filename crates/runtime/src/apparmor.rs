//! AppArmor, where it leaves a program no rights in a user namespace: Ubuntu's, since 23.10, leaves them to those alone that
//! it has a profile for.

use std::fs;
use std::path::Path;

/// In which profile a process runs, as the kernel says it (apparmor(7)): `unconfined`, or `PROFILE (MODE)`.
const LABEL: &str = "/proc/self/attr/apparmor/current";
/// What makes the kernel give a program that has no profile another one as soon as it makes a user namespace, where there
/// is such a setting.
const RESTRICTS: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// The way out for an ordinary user to whom something was forbidden, if it is AppArmor's doing.
pub(crate) fn remedy() -> Option<String> {
    let label = fs::read_to_string(LABEL).unwrap_or_else(|_| UNCONFINED.to_owned());
    let restricts = fs::read_to_string(RESTRICTS).is_ok_and(|text| text.trim() != "0");
    remedy_of(label.trim(), restricts, std::env::current_exe().ok().as_deref())
}

const UNCONFINED: &str = "unconfined";

fn remedy_of(label: &str, restricts: bool, program: Option<&Path>) -> Option<String> {
    if label == UNCONFINED {
        return restricts.then(|| allow(program));
    }
    match label.rsplit_once(" (")? {
        // One that allows everything, user namespaces too, or that only complains.
        (_, "unconfined)" | "complain)") => None,
        (profile, _) => Some(format!(
            "AppArmor runs hop in the profile `{profile}`, which leaves it no rights in a user namespace: run it from a \
             shell that is outside of that; a container takes `--privileged`"
        )),
    }
}

/// The command that lets AppArmor know a program. As a file of that directory the profile is loaded whenever the machine starts.
fn allow(program: Option<&Path>) -> String {
    const WHY: &str = "AppArmor leaves a program that it does not know no rights in a user namespace";
    let Some(path) = program.and_then(Path::to_str).filter(|path| is_plain(path)) else {
        let path = program.map_or_else(String::new, |path| format!(", {},", path.display()));
        return format!(
            "{WHY}, and the path of this one{path} is none for a profile: copy it to /usr/local/bin, and run `hop doctor` there"
        );
    };
    let file = format!("/etc/apparmor.d/{}", path.trim_start_matches('/').replace(['/', ' '], "."));
    format!(
        "{WHY}. This makes it known, for good:\n\
         echo 'abi <abi/4.0>, \"{path}\" flags=(unconfined) {{ userns, }}' | sudo tee {file} && sudo apparmor_parser -r {file}\n\
         or all programs, until the machine starts again: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )
}

/// Does it stand for itself in a profile, between quotes, and in a shell? One that was replaced while it ran does not.
fn is_plain(path: &str) -> bool {
    path.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '=' | ' '))
        && path.starts_with('/')
        // Longer than that is no name of a file (`NAME_MAX`).
        && path.len() <= 255
        // A file whose name begins with a dot is not loaded.
        && !path.starts_with("/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(label: &str, restricts: bool, program: &str) -> Option<String> {
        remedy_of(label, restricts, Some(Path::new(program)))
    }

    #[test]
    fn a_program_without_a_profile_is_made_known_by_its_path() {
        let said = of("unconfined", true, "/home/ann/.cargo/bin/hop").unwrap();
        let command = said.lines().nth(1).unwrap();
        assert_eq!(
            command,
            "echo 'abi <abi/4.0>, \"/home/ann/.cargo/bin/hop\" flags=(unconfined) { userns, }' \
             | sudo tee /etc/apparmor.d/home.ann..cargo.bin.hop && sudo apparmor_parser -r /etc/apparmor.d/home.ann..cargo.bin.hop"
        );
        // Two programs have two files.
        assert!(
            of("unconfined", true, "/usr/local/bin/hop").unwrap().contains("tee /etc/apparmor.d/usr.local.bin.hop ")
        );
        assert!(
            of("unconfined", true, "/home/ann/my labs/hop")
                .unwrap()
                .contains("tee /etc/apparmor.d/home.ann.my.labs.hop ")
        );
        assert_eq!(of("unconfined", false, "/usr/local/bin/hop"), None);
    }

    #[test]
    fn a_path_that_is_no_path_to_a_profile_is_not_written_into_one() {
        for path in [
            "/home/ann/{a,b}/hop",
            "/home/ann/it's/hop",
            "/usr/bin/hop (deleted)",
            "/home/@{x}/hop",
            "/x\"/hop",
            "/.x/hop",
            &format!("/home/ann/{}/hop", "x".repeat(250)),
        ] {
            let said = of("unconfined", true, path).unwrap();
            assert!(said.contains("/usr/local/bin") && !said.contains("sudo"), "{said}");
        }
        assert!(remedy_of("unconfined", true, None).is_some());
    }

    #[test]
    fn a_profile_that_confines_is_named() {
        for label in ["docker-default (enforce)", "/opt/hop//&unprivileged_userns (mixed)", "snap.x.y (kill)"] {
            let said = of(label, true, "/opt/hop").unwrap();
            assert!(said.contains(label.split(' ').next().unwrap()) && !said.contains("sudo"), "{said}");
            assert_eq!(of(label, false, "/opt/hop").unwrap(), said);
        }
        // It is known already: something else forbids it.
        assert_eq!(of("/opt/hop (unconfined)", true, "/opt/hop"), None);
        assert_eq!(of("x (complain)", true, "/opt/hop"), None);
    }
}
