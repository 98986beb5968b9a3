//! `{{ .name }}` in the texts of a tree, with the place of one that stands for nothing.

use super::{
    blocks::parts,
    de::Fault,
    tree::{Data, Node},
};

/// Puts what `value_of` answers in the place of every name below `node`.
pub(super) fn fill(node: &mut Node, value_of: &dyn Fn(&str) -> Option<String>) -> Result<(), Fault> {
    match &mut node.data {
        Data::Text(text) | Data::Loose(text) if text.contains("{{") => {
            *text = filled(text, value_of).map_err(|fault| fault.at(&node.origin))?;
        }
        Data::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                fill(item, value_of).map_err(|fault| fault.inside_index(i))?;
            }
        }
        Data::Map(map) => {
            for (key, entry) in map {
                fill(&mut entry.value, value_of).map_err(|fault| fault.inside_key(key))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn filled(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let mut filled = String::new();
    let parts = parts(text).map_err(|error| {
        let fault = Fault::new(error.message());
        fault.hint(error.hint().unwrap_or_default())
    })?;
    for (before, name) in parts {
        filled.push_str(before);
        let Some(name) = name else { continue };
        let value = value_of(name).ok_or_else(|| {
            Fault::new(format!("nothing says what `{{{{ .{name} }}}}` stands for")).hint(format!(
                "set the environment variable {}, or give the variable `{name}` a value",
                name.to_uppercase()
            ))
        })?;
        filled.push_str(&value);
    }
    Ok(filled)
}
