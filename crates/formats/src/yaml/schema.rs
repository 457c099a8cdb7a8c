//! The JSON Schema of the topology file, for editors.

/// The JSON Schema (draft 2020-12) of a topology file.
///
/// It describes the shape; what only the whole can tell (does a name exist, is an address given
/// twice) is said by reading it.
pub fn schema() -> String {
    // Written by hand and kept beside the reader: a schema made from types explains nothing to
    // the person whose editor shows it.
    include_str!("schema.json").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::read::{ADDRESSING, LAB, LINK, NAT, NODE, SOURCE, SWITCH};
    use super::*;

    #[test]
    fn the_schema_has_the_keys_that_the_reader_takes() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        for (pointer, keys) in [
            ("", LAB),
            ("/$defs/addressing", ADDRESSING),
            ("/$defs/node", NODE),
            ("/$defs/nat", NAT),
            ("/$defs/source", SOURCE),
            ("/$defs/switch/oneOf/2", SWITCH),
            ("/$defs/link/oneOf/1", LINK),
        ] {
            let object = schema.pointer(pointer).unwrap();
            assert_eq!(object["additionalProperties"], Value::Bool(false), "{pointer}");
            let mut found: Vec<&str> = object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, keys, "{pointer}");
        }
    }

    #[test]
    fn every_reference_of_the_schema_leads_somewhere() {
        fn walk(value: &Value, root: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(reference)) = object.get("$ref") {
                        assert!(root.pointer(&reference[1..]).is_some(), "{reference}");
                    }
                    object.values().for_each(|value| walk(value, root));
                }
                Value::Array(list) => list.iter().for_each(|value| walk(value, root)),
                _ => {}
            }
        }
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        walk(&schema, &schema);
    }
}
