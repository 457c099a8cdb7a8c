//! What the kernel refused, as data.

use std::fmt;

use hopyard_net::Op;
use thiserror::Error;

use crate::Errno;

/// Something that the kernel refused, with its own words where it gave any.
///
/// Displays as `cannot create link r1:eth1 -- r2:eth0: File exists (EEXIST)`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct KernelError {
    /// The operation, where it was one.
    pub op: Option<Box<Op>>,
    /// What was tried, in words that fit behind "cannot".
    pub doing: String,
    /// The kernel's answer.
    pub errno: Errno,
    /// The kernel's explanation: the text of its extended acknowledgement (netlink(7)).
    pub kernel_said: Option<String>,
    /// Where in the request the fault lies, in bytes from its first, as the kernel says it.
    pub offset: Option<u32>,
}

impl KernelError {
    /// A refusal that belongs to no single operation.
    pub(crate) fn new(doing: impl Into<String>, errno: impl Into<Errno>) -> Self {
        KernelError { op: None, doing: doing.into(), errno: errno.into(), kernel_said: None, offset: None }
    }

    /// A refusal of an operation.
    pub(crate) fn of_op(op: &Op, refusal: Refusal) -> Self {
        let doing = refusal.doing.unwrap_or_else(|| op.purpose());
        let Refusal { errno, kernel_said, offset, .. } = refusal;
        KernelError { op: Some(Box::new(op.clone())), doing, errno, kernel_said, offset }
    }

    /// The kernel's answer, by number.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// Is it that this kernel lacks what was asked for: a kind of link, a sysctl?
    pub fn is_unsupported(&self) -> bool {
        match self.op.as_deref() {
            Some(Op::AddBridge(_) | Op::AddVeth { .. }) => {
                self.errno.is_unsupported() || self.errno == Errno::NODEV && self.kernel_said.is_none()
            }
            Some(Op::SetSysctl { .. }) => self.errno == Errno::NOENT,
            // The kind of a chain that it does not know is "not found", like a file.
            Some(Op::SetNat { .. }) => self.errno.is_unsupported() || self.errno == Errno::NOENT,
            _ => self.errno.is_unsupported(),
        }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.doing)?;
        match self.op.as_deref() {
            Some(Op::SetSysctl { .. }) if self.is_unsupported() => f.write_str("no such sysctl in this namespace")?,
            Some(Op::SetNat { .. }) if self.is_unsupported() => {
                f.write_str("this kernel translates no addresses, or has not loaded what does (CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT)")?;
            }
            Some(Op::AddBridge(_)) if self.is_unsupported() => {
                f.write_str("this kernel has no bridges, or has not loaded them")?;
            }
            Some(Op::AddVeth { .. }) if self.is_unsupported() => {
                f.write_str("this kernel has no veth links, or has not loaded them")?;
            }
            _ => return self.write_answer(f),
        }
        f.write_str("; ")?;
        self.write_answer(f)
    }
}

impl KernelError {
    /// The kernel's answer alone, in words.
    pub fn answer(&self) -> String {
        match &self.kernel_said {
            Some(text) => format!("{}: {text}", self.errno),
            None => self.errno.to_string(),
        }
    }

    fn write_answer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer())
    }
}

/// The first operation of a list that failed.
///
/// Operations behind it may have been done: those of one kind go to the kernel together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{error}")]
pub struct ApplyError {
    /// Which of the operations: the lowest index of those that failed.
    pub at: usize,
    /// How many of the operations were done.
    pub done: usize,
    /// Why it failed.
    pub error: KernelError,
}

/// A refusal that is not yet tied to what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) kernel_said: Option<String>,
    pub(crate) offset: Option<u32>,
    /// Instead of the purpose of the operation.
    pub(crate) doing: Option<String>,
}

impl Refusal {
    /// A refusal of our own making, in the kernel's terms.
    pub(crate) fn saying(errno: Errno, text: impl Into<String>) -> Self {
        Refusal { kernel_said: Some(text.into()), ..Refusal::from(errno) }
    }

    /// The same, as an error without an operation.
    pub(crate) fn while_doing(self, doing: impl Into<String>) -> KernelError {
        let Refusal { errno, kernel_said, offset, .. } = self;
        KernelError { op: None, doing: doing.into(), errno, kernel_said, offset }
    }
}

impl<E: Into<Errno>> From<E> for Refusal {
    fn from(errno: E) -> Self {
        Refusal { errno: errno.into(), kernel_said: None, offset: None, doing: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopyard_net::SysctlKey;

    #[test]
    fn an_error_reads_as_a_sentence() {
        let op = Op::AddNs("r1".parse().unwrap());
        let error = KernelError::of_op(&op, Errno::NOSPC.into());
        assert_eq!(error.to_string(), "cannot create node r1: No space left on device (ENOSPC)");

        let op = Op::SetSysctl { ns: "r1".parse().unwrap(), key: SysctlKey::IPV4_FORWARD, value: "1".into() };
        let error = KernelError::of_op(&op, Errno::NOENT.into());
        assert_eq!(
            error.to_string(),
            "cannot set net.ipv4.ip_forward = 1 in r1: no such sysctl in this namespace; \
             No such file or directory (ENOENT)"
        );

        let route = hopyard_net::RouteKey::main("10.0.0.0/8".parse().unwrap());
        let op = Op::DelRoute { ns: "r1".parse().unwrap(), key: route };
        let error =
            KernelError::of_op(&op, Refusal::saying(Errno::from_raw(libc::ENETUNREACH), "Nexthop has invalid gateway"));
        assert_eq!(
            error.to_string(),
            "cannot remove the route to 10.0.0.0/8 from r1: Network is unreachable (ENETUNREACH): \
             Nexthop has invalid gateway"
        );
    }
}
