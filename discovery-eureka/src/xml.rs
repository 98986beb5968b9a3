//! Answers in XML, which come when a proxy drops `Accept`: turned into what the same answer looks like in JSON.

use discovery_core::Result;
use roxmltree::{Document, Node};
use serde_json::{Map, Value};

use crate::error;

/// Elements whose text may be missing without their being objects.
fn is_text(node: Node<'_, '_>) -> bool {
    !node.children().any(|child| child.is_element())
}

/// The document as JSON: its root is the one field of the object.
pub(crate) fn to_json(text: &str, what: &'static str) -> Result<Value> {
    // Documents with a DTD, pages of HTML among them, are refused.
    let document = Document::parse(text).map_err(|_| error::page(what))?;
    let root = document.root_element();
    let mut object = Map::new();
    object.insert(name(root), value(root));
    Ok(Value::Object(object))
}

fn name(node: Node<'_, '_>) -> String {
    node.tag_name().name().to_owned()
}

fn value(node: Node<'_, '_>) -> Value {
    let text = || node.text().unwrap_or_default().to_owned();
    if is_text(node) && node.attributes().len() == 0 {
        return Value::String(text());
    }
    let mut object = Map::new();
    for attribute in node.attributes() {
        object.insert(format!("@{}", attribute.name()), attribute.value().into());
    }
    if is_text(node) {
        // An empty map names its class and nothing else.
        if node.text().is_some() {
            object.insert("$".to_owned(), text().into());
        }
        return Value::Object(object);
    }
    for child in node.children().filter(Node::is_element) {
        let found = value(child);
        match object.get_mut(child.tag_name().name()) {
            Some(Value::Array(items)) => items.push(found),
            Some(one) => *one = Value::Array(vec![one.take(), found]),
            None => {
                object.insert(name(child), found);
            }
        }
    }
    Value::Object(object)
}
