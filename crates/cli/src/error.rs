//! The one place where an error of the library becomes words, a hint and an exit status.

use std::path::Path;

use hopyard::formats::{self, SourceFile};
use hopyard::kernel::Errno;
use hopyard::model::{LabName, Problem};
use hopyard::net::{NsName, Op};
use hopyard::runtime;
use hopyard::runtime::attach::AttachError;
use hopyard::runtime::boot::{BootError, Wish};
use hopyard::runtime::ns::{EntryName, NsError};

use crate::source::Source;
use crate::ui::{ERROR, Ui, quoted};

/// The exit status for input that is wrong.
pub(crate) const USAGE: u8 = 2;
/// The exit status for anything else that failed.
pub(crate) const FAILURE: u8 = 1;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The topology is wrong.
    Topology { problems: Vec<Problem>, source: Box<SourceFile> },
    /// The command line is wrong in a way that only a look at the machine shows.
    Usage { message: String, hint: Option<String> },
    /// Something failed, with the topology that asked for it, where one did.
    Runtime { error: Box<runtime::Error>, source: Option<Box<SourceFile>> },
    /// Anything else that failed.
    Failure { message: String, hint: Option<String> },
    /// A command could not be started: its exit status by the convention of the shell.
    Command { message: String, status: u8, hint: Option<String> },
    /// A question was not answered: the status where a failure would read as an answer.
    Unanswered { error: Box<CliError>, status: u8 },
    /// Whoever read the output has stopped reading.
    BrokenPipe,
}

impl CliError {
    pub(crate) fn failure(message: impl Into<String>) -> Self {
        CliError::Failure { message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        CliError::Usage { message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, text: impl Into<String>) -> Self {
        let hint = Some(text.into());
        match self {
            CliError::Usage { message, .. } => CliError::Usage { message, hint },
            CliError::Failure { message, .. } => CliError::Failure { message, hint },
            CliError::Command { message, status, .. } => CliError::Command { message, status, hint },
            other => other,
        }
    }

    /// Ties an error to the topology that asked for what failed.
    pub(crate) fn of_lab(error: runtime::Error, source: &Source) -> Self {
        match error {
            runtime::Error::Plan(problems) => CliError::Topology { problems, source: Box::new(source.file.clone()) },
            error => CliError::Runtime { error: Box::new(error), source: Some(Box::new(source.file.clone())) },
        }
    }

    /// Prints it and says how the program ends.
    pub(crate) fn report(self, ui: &mut Ui) -> u8 {
        let message = |ui: &mut Ui, text: &str| ui.note(format_args!("{ERROR}error{ERROR:#}: {text}"));
        match self {
            CliError::Topology { problems, source } => {
                report_problems(ui, &problems, &source);
                let errors = problems.iter().filter(|problem| problem.is_error()).count();
                if errors > 1 {
                    ui.note(format_args!("{errors} errors"));
                }
                USAGE
            }
            CliError::Usage { message: text, hint } => {
                message(ui, &text);
                hint.inspect(|hint| ui.hint(hint));
                USAGE
            }
            CliError::Failure { message: text, hint } => {
                message(ui, &text);
                hint.inspect(|hint| ui.hint(hint));
                FAILURE
            }
            CliError::Command { message: text, status, hint } => {
                message(ui, &text);
                hint.inspect(|hint| ui.hint(hint));
                status
            }
            CliError::Runtime { error, source } => report_runtime(ui, &error, source.as_deref()),
            CliError::Unanswered { error, status } => match error.report(ui) {
                FAILURE => status,
                other => other,
            },
            CliError::BrokenPipe => FAILURE,
        }
    }

    /// A question that is not answered, where a failure would read as the answer "no".
    pub(crate) fn unanswered(self, status: u8) -> Self {
        CliError::Unanswered { error: Box::new(self), status }
    }
}

impl From<runtime::Error> for CliError {
    fn from(error: runtime::Error) -> Self {
        CliError::Runtime { error: Box::new(error), source: None }
    }
}

/// Prints problems as they stand in the topology, with a blank line between.
pub(crate) fn report_problems(ui: &mut Ui, problems: &[Problem], source: &SourceFile) {
    for (n, problem) in problems.iter().enumerate() {
        if n > 0 {
            ui.note("");
        }
        ui.note(formats::render_with(problem, source, &formats::Style::ANSI).trim_end());
    }
}

fn report_runtime(ui: &mut Ui, error: &runtime::Error, source: Option<&SourceFile>) -> u8 {
    use runtime::Error;
    match (error, source) {
        (Error::Step { op, origin, error: cause, done: (done, all), was_running }, Some(source)) => {
            let problem = Problem::error("step", *origin, cause.to_string());
            ui.note(formats::render_with(&problem, source, &formats::Style::ANSI).trim_end());
            ui.note(format_args!("  ran: {op}"));
            if *was_running {
                ui.note(format_args!(
                    "  {done} of {all} steps were done; those in nodes that were there before stay done"
                ));
            }
        }
        _ => ui.note(format_args!("{ERROR}error{ERROR:#}: {error}")),
    }
    if let Some(hint) = hint(error) {
        ui.hint(hint);
    }
    match error {
        Error::NoSuchNode { .. }
        | Error::IsSwitch { .. }
        | Error::NotRunning { .. }
        | Error::Plan(_)
        | Error::Ns(
            NsError::NotFound { .. }
            | NsError::BadName { .. }
            | NsError::NoProcess { .. }
            | NsError::NoInterface { .. }
            | NsError::IsThere { .. }
            | NsError::Loopback,
        )
        | Error::Attach(
            AttachError::NotAttached { .. }
            | AttachError::BadName { .. }
            | AttachError::NoContainer { .. }
            | AttachError::Ambiguous { .. },
        )
        | Error::Boot(BootError::NotEnabled { .. } | BootError::BadService { .. } | BootError::NoService { .. }) => {
            USAGE
        }
        _ => FAILURE,
    }
}

/// What to do about a lab of which only remains are left.
pub(crate) fn remains_hint(lab: &LabName) -> String {
    format!("`hop down {lab}` clears its remains, `hop up` brings it up anew")
}

fn has_remains(lab: &LabName) -> bool {
    let remains = runtime::Home::of_caller().and_then(|home| runtime::Running::remains(&home));
    remains.is_ok_and(|remains| remains.contains(lab))
}

fn is_ephemeral(lab: &LabName) -> bool {
    let running = runtime::Home::of_caller().and_then(|home| runtime::Running::find(&home, lab));
    running.is_ok_and(|running| running.record().ephemeral)
}

/// The way out, where one is known.
pub(crate) fn hint(error: &runtime::Error) -> Option<String> {
    use runtime::Error;
    let remedy = runtime::remedy::remedy(error);
    match error {
        Error::NotRunning { name } => Some(match std::env::var("HOP_NODE") {
            Ok(node) => format!("this is inside of node `{node}`, where labs cannot be managed; leave it first"),
            Err(_) if has_remains(name) => format!("its keeper has ended; {}", remains_hint(name)),
            Err(_) => "`hop ls` lists the labs that run".to_owned(),
        }),
        Error::AlreadyRunning { name } if is_ephemeral(name) => Some(
            "it lasts as long as the command of `hop run`, or the program, that started it, and stays as it began; `--name` gives this one another name"
                .to_owned(),
        ),
        Error::AlreadyRunning { name } => {
            Some(format!("`hop down {name}` takes it down; `--name` gives this one another name"))
        }
        Error::NoSuchNode { lab, node, nodes } => {
            let names = nodes.iter().map(hopyard::net::NsName::as_str);
            Some(match hopyard::model::nearest(node, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("`hop show -l {lab}` lists its nodes"),
            })
        }
        Error::IsSwitch { lab, .. } => Some(format!("`hop show -l {lab}` says which are nodes")),
        Error::Held { .. } => {
            Some("`ps -eo pid,stat,args | grep hop` shows it with a T; `kill -CONT PID` lets it go on".to_owned())
        }
        Error::Record { path, .. } => Some(record_hint(path)),
        Error::NotPrivate { .. } => Some("remove it, or set HOPYARD_DIR to a directory of your own".to_owned()),
        Error::Step { op, error, .. } if matches!(**op, Op::SetSysctl { .. }) && error.errno() == Errno::ACCES => {
            Some("it belongs to the whole machine, and cannot be set in a namespace".to_owned())
        }
        Error::Step { op, error, was_running, .. } => match error.errno() {
            Errno::EXIST => {
                Some(format!("something of that name is in {} already; `hop show {}` lists it", op.ns(), op.ns()))
            }
            _ if remedy.is_some() => remedy,
            _ if *was_running => Some("`hop diff` shows what is left to do, `hop up` again finishes it".to_owned()),
            errno => resource_hint(errno.raw()),
        },
        Error::CannotProbe(_) => Some(
            "`--no-probe` sends none, and goes by what is computed and asked; to probe takes root, or the rights of whose network it is"
                .to_owned(),
        ),
        Error::Ns(error) => ns_hint(error),
        Error::Boot(error) => boot_hint(error),
        Error::Attach(error) => attach_hint(error),
        Error::NotLent { .. } => Some("without `interfaces` in the file it runs for you as well".to_owned()),
        Error::RadioParted { dev, other, .. } => Some(format!("`interfaces: [{dev}, {other}]`")),
        Error::LentElsewhere { .. } => {
            Some("take the lab down where it was brought up; inside of a container that is in the container".to_owned())
        }
        Error::Uplink(error) => uplink_hint(error),
        Error::Kernel(error) => remedy.or_else(|| resource_hint(error.errno().raw())),
        // Of what is asked beyond netlink only a keeper answers.
        Error::System(failure) if failure.errno() == Some(Errno::TIMEDOUT) => Some(
            "`hop ls --json` names its process; where `ps` shows that with a T it was stopped, and `kill -CONT PID` lets it \
             go on. `hop down` ends the lab in any case"
                .to_owned(),
        ),
        Error::System(failure) => remedy.or_else(|| resource_hint(failure.errno()?.raw())),
        Error::Io { source, .. } => source.raw_os_error().and_then(resource_hint),
        _ => None,
    }
}

/// The way out of a record that cannot be read. What is outside of the lab is on some of them alone, and `hop down` does
/// not go on without these.
fn record_hint(path: &Path) -> String {
    let lab = path.parent().and_then(|dir| dir.file_name()).unwrap_or_default().display();
    let file = path.display();
    match path.file_name().and_then(|name| name.to_str()) {
        Some("lent.json") => format!(
            "`kill PID` of the lab's keeper, which `hop ls --json` names, ends the lab and brings the machine's interfaces \
             back, without their addresses; then remove {file}"
        ),
        Some("attached.json") => format!(
            "remove {file}, and `hop down {lab}` removes the lab; what it has made in containers is then for you to remove"
        ),
        _ => format!("`hop down {lab}` removes the lab and its record"),
    }
}

/// The way out, of what concerns ways out of a lab.
fn uplink_hint(error: &runtime::UplinkError) -> Option<String> {
    use runtime::UplinkError;
    match error {
        UplinkError::NoPasta => Some("install the package `passt`, or bring the lab up as root".to_owned()),
        UplinkError::NoTun { source } => Some(runtime::remedy::tun_remedy(source)),
        UplinkError::Elsewhere => Some("leave the network namespace that this shell is in".to_owned()),
        UplinkError::Pasta { said, .. } if said.contains("Permission denied") || said.contains("not permitted") => {
            Some(
                "as root, `dmesg | grep -i denied` says whether AppArmor or SELinux forbids it, and in which profile"
                    .to_owned(),
            )
        }
        UplinkError::Pasta { .. } => {
            Some("it goes by the host's default route; `ip route` shows whether there is one".to_owned())
        }
        UplinkError::HostRecord { path, .. } => Some(format!(
            "take the labs with a way out down, set back what the host had (`sysctl -w net.ipv4.ip_forward=0`, if it did \
             not forward, and `net.ipv6.conf.DEV.force_forwarding=0` of its interfaces), and remove {}",
            path.display()
        )),
        UplinkError::NoAddresses { .. } => None,
    }
}

/// The way out, of what concerns namespaces that have names.
fn ns_hint(error: &NsError) -> Option<String> {
    match error {
        NsError::NoRights { .. } => Some(
            "the names in /run/netns are root's; `hop up` runs a network of your own without root, and \
             `hop sandbox CMD` a command in an empty one"
                .to_owned(),
        ),
        NsError::NoCapability { .. } => Some(
            "a container has both if it is started with `--cap-add SYS_ADMIN --cap-add NET_ADMIN`, or `--privileged`; \
             `hop up` runs a network of your own without"
                .to_owned(),
        ),
        NsError::Closed { .. } | NsError::ClosedName { .. } => Some(
            "it belongs to another user, or has rights that this one lacks; root can open it, but for root of a \
             container, which cannot look at all"
                .to_owned(),
        ),
        NsError::NotFound { name, names } => {
            let name = name.to_string();
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            Some(match hopyard::model::nearest(&name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`hop ns list` lists those that there are".to_owned(),
            })
        }
        NsError::Exists { name } => {
            Some(format!("`hop ns list` shows what is in it; `hop ns delete {name}` deletes it"))
        }
        NsError::Dead { name } => Some(match (typed(name), name.to_string().parse::<NsName>()) {
            (Some(word), Ok(_)) => {
                format!("`hop ns add {word}` makes it a namespace again, `hop ns delete {word}` removes it")
            }
            (Some(word), Err(_)) => format!("`hop ns delete {word}` removes it"),
            (None, _) => "`hop ns delete` removes it; no shell takes the name as it is shown here".to_owned(),
        }),
        NsError::Foreign { .. } => Some(
            "hop leaves it alone, and you can remove it: `ls -l /run/netns` shows it, `umount` takes off what is mounted"
                .to_owned(),
        ),
        NsError::NotNumbered { error, .. } if error.errno() == Errno::EXIST => Some(
            "`ip netns list-id` shows which numbers are given; a namespace keeps the one that it has, and `auto` takes \
             one that is free"
                .to_owned(),
        ),
        NsError::NotNumbered { error, .. } => resource_hint(error.errno().raw()),
        NsError::OfLab { lab: Some(lab), .. } => Some(format!("`hop down {lab}` takes the lab down")),
        NsError::NoInterface { dev, devs, .. } => {
            let near = hopyard::model::nearest(dev.as_str(), devs.iter().map(hopyard::net::IfName::as_str));
            near.map(|near| format!("did you mean `{near}`?"))
        }
        NsError::Taken { dev, .. } => {
            Some(format!("`ip link set dev {dev} name OTHER` gives one of them another name"))
        }
        NsError::NotMoved { error, dev, .. } if error.errno() == Errno::EXIST => {
            Some(format!("there is another `{dev}`; `ip link set dev {dev} name OTHER` gives one of them another name"))
        }
        NsError::NotMoved { error, .. } if error.errno() == Errno::INVAL => {
            Some("some kinds cannot leave their namespace, as `lo` and bridges".to_owned())
        }
        NsError::NotMoved { dev, error, .. } if error.errno().is_unsupported() => Some(format!(
            "the driver of `{dev}` keeps its radio where it is; `iw list` says `set_wiphy_netns` of those that can"
        )),
        NsError::NoWayBack { name, dev } => Some(format!(
            "`hop ns move {dev} --from {name}` moves it here first, `ip -n {name} link delete dev {dev}` does away with it"
        )),
        NsError::BadMove { name, dev, .. } => {
            Some(format!("`hop ns move {dev} --from {name}` brings it here, with what it has there"))
        }
        NsError::OfLab { lab: None, .. } => Some("`hop down` of whoever brought the lab up takes it down".to_owned()),
        _ => None,
    }
}

/// The name as a shell takes it for one word, and no option; `None`: it cannot be shown so on one line.
fn typed(name: &EntryName) -> Option<String> {
    let text = name.as_os_str().to_str().filter(|text| !text.contains(char::is_control))?;
    let word = quoted(text);
    Some(if text.starts_with('-') { format!("-- {word}") } else { word })
}

/// The way out, of what concerns containers.
fn attach_hint(error: &AttachError) -> Option<String> {
    Some(match error {
        AttachError::IsAttached { node, .. } => format!("`hop detach {node}` makes it a node as any other again"),
        AttachError::IsHost { .. } => "start it with `--network none`, or with a network of its own".to_owned(),
        AttachError::NotYours { .. } => {
            "as root it can be attached to a lab of root's; without root, `hop exec NODE CMD` starts a program in a node"
                .to_owned()
        }
        AttachError::NameTaken { node, dev, .. } => format!(
            "give the node's interface another name, as in `{node}:lab0 -- ...`, or start the container with \
             `--network none`: then it has no `{dev}`"
        ),
        AttachError::HasOutside { node, .. } => format!("link `{node}` to another node that has it"),
        AttachError::InUse { .. } => "end them first: they would be left in a network without links".to_owned(),
        AttachError::NoContainer { .. } => "`--pid NUMBER` attaches any process".to_owned(),
        AttachError::Ambiguous { engines: (first, _), .. } => format!("`--engine {first}` says which one is meant"),
        _ => return None,
    })
}

/// The way out, of what concerns systemd.
fn boot_hint(error: &BootError) -> Option<String> {
    let text = match error {
        BootError::NoSystemd { wish: Wish::Enable } => {
            "`--print` prints the unit; elsewhere, have the machine run `hop up` when it starts"
        }
        BootError::NoSystemd { wish: Wish::Disable } => {
            "it is systemd that brings enabled labs up; `hop down` takes one down that runs"
        }
        BootError::NoSystemd { wish: Wish::Install } => {
            "without `--install` the drop-in is printed; `hop exec LAB/NODE CMD` runs a command in a node"
        }
        BootError::NoUserManager { .. } => {
            "it is there where you have logged in, not after `su`; `loginctl enable-linger` keeps it from then on"
        }
        BootError::Foreign { path } => {
            return Some(format!("`--force` replaces it; look at it first: `cat {}`", path.display()));
        }
        BootError::BadPath { .. } => "a path of letters, digits and `/ . _ - + @` can",
        BootError::NoProgram { .. } => "start it again by its path",
        BootError::Systemctl { .. } => "`journalctl -xe` may say more, with `--user` for a unit of yours",
        BootError::NotEnabled { lab } => return Some(format!("`hop enable {lab}` has it come up before the service")),
        BootError::NoService { .. } => "`systemctl list-unit-files --type service` lists those that there are",
        BootError::Masked { name } => return Some(format!("`systemctl unmask {name}` lets it run at all")),
        BootError::Overruled { name, .. } => {
            return Some(format!(
                "`systemctl cat {name}` shows the files in their order; take the `NetworkNamespacePath=` behind ours out"
            ));
        }
        BootError::UserService => {
            "let the service begin with `ExecStart=/path/of/hop exec LAB/NODE`, and its command behind it"
        }
        BootError::NoSystemd { wish: Wish::Uninstall }
        | BootError::BadService { .. }
        | BootError::KeeperKilled { .. } => return None,
    };
    Some(text.to_owned())
}

/// Limits of the machine, by the error numbers with which they show.
fn resource_hint(errno: i32) -> Option<String> {
    let text = match Errno::from_raw(errno) {
        Errno::PERM | Errno::ACCES => "`hop doctor` says which right is missing, and how to get it",
        Errno::MFILE => "too many open files: `ulimit -n` shows the limit; a lab needs one a node, and a few more",
        Errno::NFILE => "the machine has no file descriptors left: see `sysctl fs.file-max`",
        Errno::NOSPC => {
            "a limit of the machine: `hop doctor` checks namespaces and mounts, `df /run` the space for records"
        }
        Errno::ROFS => {
            "it is mounted read-only: as root, `mount -o remount,rw` where `findmnt -T DIRECTORY` says; HOPYARD_DIR may \
             name another directory for the records of labs"
        }
        Errno::NOTDIR => {
            "a file is where a directory should be, or the other way round: `ls -ld` shows which; move it away"
        }
        Errno::AGAIN => "too many processes: `ulimit -u` shows how many you may have, pids.max that of a control group",
        Errno::NOMEM => "no memory left: a node needs about 0.35 MB of it",
        _ => return None,
    };
    Some(text.to_owned())
}
