//! A file that is written whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

use hopyard::runtime::whole_file::WholeFile;

use crate::error::CliError;

/// Writes a file. `replace`: also where there is one.
pub(crate) fn write(path: &Path, text: &str, replace: bool) -> Result<(), CliError> {
    let shown = path.display();
    let there = match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            return Err(CliError::usage(format!("{shown} is there, and is no file"))
                .hint("`-o FILE` names another one, `-o -` is standard output"));
        }
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(CliError::failure(format!("cannot look at {shown}: {error}"))),
    };
    let exists = || {
        CliError::usage(format!("{shown} is there already")).hint("`--force` replaces it, `-o FILE` names another one")
    };
    if there && !replace {
        return Err(exists());
    }
    // A link stays one, and the file that it leads to is replaced.
    let target = if there { fs::canonicalize(path) } else { Ok(path.to_owned()) };
    let written = target.and_then(|target| put(&target, text, replace));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => CliError::failure(format!("cannot write {shown}: {error}")),
    })
}

fn put(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(hidden);
    let file = WholeFile::new(path, &new).lasting();
    if replace { file.replace(text.as_bytes()) } else { file.create(text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_replaced_only_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        write(&path, "one", false).unwrap();
        assert!(write(&path, "two", false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, "two", true).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, "three", true).unwrap();
        assert!(link.is_symlink() && fs::read_to_string(&path).unwrap() == "three");
        assert!(write(dir.path(), "four", true).is_err(), "a directory was replaced");
        assert!(write(Path::new("/dev/null"), "five", true).is_err(), "a device was replaced");
        assert!(write(&dir.path().join("no/x.json"), "six", false).is_err());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
