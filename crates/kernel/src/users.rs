//! Users of the machine, by name or number.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use crate::Identity;

/// More groups than the kernel lets a process have (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;
/// No user and no group has this number: to setresuid(2) it says that nothing is to change.
pub(crate) const NOBODY_AT_ALL: u32 = u32::MAX;

/// Looks a user up by name, or else by number; with all its groups. `None`: there is no such user.
///
/// # Errors
/// The database of users cannot be read.
pub fn find(user: &str) -> io::Result<Option<Identity>> {
    let name = CString::new(user)?;
    if let Some(found) = by(|entry, buffer, len, result| {
        // SAFETY: all pointers are valid for the call; see `by`.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, len, result) }
    })? {
        return groups_of(&found).map(Some);
    }
    let Some(uid) = user.parse::<u32>().ok().filter(|uid| *uid != NOBODY_AT_ALL) else { return Ok(None) };
    let found = by(|entry, buffer, len, result| {
        // SAFETY: all pointers are valid for the call; see `by`.
        unsafe { libc::getpwuid_r(uid, entry, buffer, len, result) }
    })?;
    match found {
        Some(found) => groups_of(&found).map(Some),
        // A number needs no name to be a user.
        None => Ok(Some(Identity { uid, gid: uid, groups: Vec::new() })),
    }
}

/// The name of a user; `None`: there is none, or the database cannot be read.
pub fn name_of(uid: u32) -> Option<String> {
    let found = by(|entry, buffer, len, result| {
        // SAFETY: all pointers are valid for the call; see `by`.
        unsafe { libc::getpwuid_r(uid, entry, buffer, len, result) }
    });
    found.ok().flatten()?.name.into_string().ok()
}

struct Found {
    name: CString,
    uid: u32,
    gid: u32,
}

/// Calls one of the `getpw…_r` functions with a buffer that is large enough.
fn by(
    call: impl Fn(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> i32,
) -> io::Result<Option<Found>> {
    let mut buffer = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut result = ptr::null_mut();
        match call(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut result) {
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            0 if result.is_null() => return Ok(None),
            0 => {
                // SAFETY: a result that is not null means that the entry was written; its strings
                // are in the buffer, which still lives.
                let (entry, name) = unsafe {
                    let entry = entry.assume_init();
                    (entry, CStr::from_ptr(entry.pw_name).to_owned())
                };
                return Ok(Some(Found { name, uid: entry.pw_uid, gid: entry.pw_gid }));
            }
            // What the databases say of a name that they do not have (getpwnam(3)).
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn groups_of(found: &Found) -> io::Result<Identity> {
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut count = i32::try_from(groups.len()).map_err(io::Error::other)?;
        // SAFETY: writes at most `count` numbers to the vector, and to `count` how many there are.
        let fits = unsafe { libc::getgrouplist(found.name.as_ptr(), found.gid, groups.as_mut_ptr(), &raw mut count) };
        if fits >= 0 {
            groups.truncate(usize::try_from(count).map_err(io::Error::other)?);
            return Ok(Identity { uid: found.uid, gid: found.gid, groups });
        }
        if groups.len() >= MAX_GROUPS {
            return Err(io::Error::other("a user of too many groups"));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = find("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(find("0").unwrap().unwrap().groups, root.groups);
        assert!(find("no-such-user").unwrap().is_none());
        assert!(find("4294967295").unwrap().is_none());
        assert_eq!(name_of(0).as_deref(), Some("root"));
        assert_eq!(name_of(4_000_000), None);
        let stranger = find("4000000").unwrap().unwrap();
        assert_eq!((stranger.uid, stranger.groups.len()), (4_000_000, 0));
    }
}
