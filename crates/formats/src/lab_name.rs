//! A name for a lab that has none: from a file's name or from what it consists of.

use hopyard_model::{LabName, stable_hash};

/// A valid lab name that resembles the text; `lab` where nothing of it can be kept.
///
/// Two long texts that begin alike get different names.
pub(crate) fn from_text(text: &str) -> String {
    let mut name = String::new();
    for c in any_ascii::any_ascii(text).chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c),
            '_' if !name.is_empty() => name.push('_'),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(name.trim_end_matches(['-', '_']).len());
    if name.len() > LabName::MAX_LEN {
        let hash = stable_hash(text.as_bytes()) & 0xff_ffff;
        name = format!("{}-{hash:06x}", &name[..LabName::MAX_LEN - 7]);
    }
    if name.is_empty() { "lab".to_owned() } else { name }
}

/// The same from a file's path: without the folders, and without the endings that say its format.
pub(crate) fn from_path(path: &str) -> String {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let lower = file.to_ascii_lowercase();
    let ending =
        [".hop.yaml", ".hop.yml", ".yaml", ".yml", ".graphml", ".xml"].into_iter().find(|e| lower.ends_with(e));
    let stem = match ending {
        Some(ending) => file.get(..file.len() - ending.len()),
        None => file.rsplit_once('.').map(|(stem, _)| stem).filter(|stem| !stem.is_empty()),
    };
    from_text(stem.unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_makes_a_valid_name() {
        for (text, name) in [
            ("home near far", "home-near-far"),
            ("Zürich / Genève", "Zurich-Geneve"),
            ("../../etc", "etc"),
            ("", "lab"),
            ("--", "lab"),
            ("_x_", "x"),
            ("北京", "BeiJing"),
        ] {
            assert_eq!(from_text(text), name, "{text}");
            assert!(from_text(text).parse::<LabName>().is_ok());
        }
        let (a, b) = (from_text(&format!("{}a", "x".repeat(50))), from_text(&format!("{}b", "x".repeat(50))));
        assert_ne!(a, b);
        assert_eq!(a.len(), LabName::MAX_LEN);
    }

    #[test]
    fn a_path_loses_its_folders_and_its_format() {
        for (path, name) in [
            ("labs/office.hop.yaml", "office"),
            ("Abilene.graphml", "Abilene"),
            ("/tmp/x.y.yml", "x-y"),
            (".hop.yaml", "lab"),
            ("three", "three"),
        ] {
            assert_eq!(from_path(path), name, "{path}");
        }
    }
}
