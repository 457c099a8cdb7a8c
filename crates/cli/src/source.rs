//! Topologies: files and inline texts.

use std::path::Path;

use clap::Args;
use hopyard::formats::{self, SourceFile};
use hopyard::model::{Lab, LabName};

use crate::error::{CliError, report_problems};
use crate::ui::Ui;

/// A topology, as the command line names it.
#[derive(Debug, Args)]
pub(crate) struct TopologyArgs {
    /// A topology file, or an inline topology such as 'home -- near -- far' or chain:5.
    #[arg(value_name = "TOPOLOGY")]
    pub(crate) topology: String,
    /// Call the lab NAME, whatever the topology says.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<LabName>,
    /// IPv4 only: choose no IPv6 addresses.
    #[arg(short = '4', long, conflicts_with = "ipv6_only")]
    pub(crate) ipv4_only: bool,
    /// IPv6 only: choose no IPv4 addresses.
    #[arg(short = '6', long)]
    pub(crate) ipv6_only: bool,
}

/// A topology that was read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: SourceFile,
    pub(crate) lab: Lab,
}

/// More than any topology needs; a pipe or a device has no end.
const MAX_BYTES: u64 = 256 << 20;

impl TopologyArgs {
    /// Reads it, and prints what it warns of.
    pub(crate) fn read(&self, ui: &mut Ui) -> Result<Source, CliError> {
        let (file, read) = if formats::looks_inline(&self.topology) {
            let read = formats::inline(&self.topology);
            (SourceFile::inline(self.topology.as_str()), read)
        } else {
            const HINT: &str = "a topology is a file, or inline: 'home -- near -- far', chain:5, ring:5, star:8, grid:3x3, tree:2x3, mesh:4, fat-tree:4";
            let file = read_file(Path::new(&self.topology), HINT)?;
            let read = formats::read(&file);
            (file, read)
        };
        match read {
            Err(problems) => Err(CliError::Topology { problems, source: Box::new(file) }),
            Ok((lab, warnings)) => {
                report_problems(ui, &warnings, &file);
                let mut lab = lab;
                if let Some(name) = &self.name {
                    lab = lab.renamed(name.clone());
                }
                if self.ipv4_only {
                    lab = lab.without_family(hopyard::net::Family::Ipv6);
                }
                if self.ipv6_only {
                    lab = lab.without_family(hopyard::net::Family::Ipv4);
                }
                Ok(Source { file, lab })
            }
        }
    }

    /// The place that the record keeps: an absolute path, so that it holds in any directory.
    pub(crate) fn place(&self, source: &Source) -> String {
        if source.file.name() == SourceFile::INLINE {
            return self.topology.clone();
        }
        std::path::absolute(&self.topology).map_or_else(|_| self.topology.clone(), |path| path.display().to_string())
    }
}

/// Reads a file. `hint` is the way out where there is none.
pub(crate) fn read_file(path: &Path, hint: &str) -> Result<SourceFile, CliError> {
    use std::io::Read;
    if path.as_os_str().is_empty() {
        return Err(CliError::usage("the name of a file is empty").hint(hint));
    }
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        let not_found = error.kind() == std::io::ErrorKind::NotFound;
        let error = CliError::usage(format!("cannot read {shown}: {error}"));
        if not_found { error.hint(hint) } else { error }
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(CliError::usage(format!("{shown} is larger than {} MiB", MAX_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::usage(format!("{shown} is not UTF-8: the byte at offset {at} begins no character"))
            .hint("`iconv -f LATIN1 -t UTF-8` converts a file of an older encoding")
    })?;
    Ok(SourceFile::new(shown.to_string(), text))
}
