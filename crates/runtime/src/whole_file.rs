//! Files that are there whole or not at all, whatever ends the process that writes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How a file is written: first into another one, which is then given its name.
#[derive(Clone, Copy, Debug)]
pub struct WholeFile<'a> {
    path: &'a Path,
    beside: &'a Path,
    mode: u32,
    lasts: bool,
}

impl<'a> WholeFile<'a> {
    /// A file at `path`. `beside` is a path in the same directory, for this writer alone: what is there is what one
    /// has left that was killed, and is removed.
    pub fn new(path: &'a Path, beside: &'a Path) -> Self {
        WholeFile { path, beside, mode: 0o666, lasts: false }
    }

    /// With these permissions, less those of the umask; 0666, if not said.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        WholeFile { mode, ..self }
    }

    /// So that it is there also after the power has failed (fsync(2)).
    #[must_use]
    pub fn lasting(self) -> Self {
        WholeFile { lasts: true, ..self }
    }

    /// Writes it, in the place of what is there.
    ///
    /// # Errors
    /// What is there stays as it is. After an error of the last step, which is to have the directory last, it may
    /// be either.
    pub fn replace(self, text: &[u8]) -> io::Result<()> {
        self.write_beside(text)?;
        fs::rename(self.beside, self.path).inspect_err(|_| self.tidy())?;
        self.settle()
    }

    /// Writes it where there is none.
    ///
    /// # Errors
    /// `AlreadyExists`, and those of [`replace`](Self::replace).
    pub fn create(self, text: &[u8]) -> io::Result<()> {
        self.write_beside(text)?;
        // Unlike a rename, a second name is not given to what is there.
        let linked = fs::hard_link(self.beside, self.path);
        self.tidy();
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // A file system without second names.
                let mut file = OpenOptions::new().write(true).create_new(true).mode(self.mode).open(self.path)?;
                file.write_all(text)?;
            }
            linked => linked?,
        }
        self.settle()
    }

    fn write_beside(self, text: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        // Never through a link that somebody else has put there.
        options.write(true).create_new(true).mode(self.mode);
        let opened = options.open(self.beside).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => fs::remove_file(self.beside).and_then(|()| options.open(self.beside)),
            _ => Err(error),
        });
        let mut file = opened?;
        let mut write = || {
            file.write_all(text)?;
            if self.lasts { file.sync_all() } else { Ok(()) }
        };
        write().inspect_err(|_| self.tidy())
    }

    /// The first error is the one to tell.
    fn tidy(self) {
        fs::remove_file(self.beside).ok();
    }

    fn settle(self) -> io::Result<()> {
        match self.path.parent().filter(|_| self.lasts) {
            Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_there_is_replaced_as_a_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, beside) = (dir.path().join("a"), dir.path().join("a.new"));
        let file = WholeFile::new(&path, &beside).mode(0o600).lasting();
        file.create(b"one").unwrap();
        assert_eq!(file.create(b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        // What a killed one has left is in nobody's way.
        fs::write(&beside, "half of a longer text").unwrap();
        file.replace(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &beside).unwrap();
        file.replace(b"two").unwrap();
        assert!(!elsewhere.exists() && path.is_file() && !path.is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!beside.exists());
        let inside_a_file = path.join("x");
        assert!(WholeFile::new(&inside_a_file, &beside).replace(b"three").is_err());
        assert!(!beside.exists(), "what could not be put in place is left");
    }
}
