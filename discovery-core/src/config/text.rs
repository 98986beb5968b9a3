//! Words for messages: suggestions, shortened text, and the keys whose values are never shown.

use std::borrow::Cow;

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// Longer words are nobody's typing slip, and comparing them would cost memory.
const LONGEST_WORD: usize = 64;

/// `text`, or its first `limit` characters and an ellipsis.
pub(super) fn shorten(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The candidate that `word` was probably meant to be.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST_WORD {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?", or what there is to choose from; `what` is its plural name.
pub(super) fn suggestion(word: &str, candidates: &[&str], what: &str) -> Option<String> {
    if let Some(candidate) = closest(word, candidates.iter().copied()) {
        return Some(format!("did you mean `{candidate}`?"));
    }
    if candidates.is_empty() {
        return None;
    }
    let list: Vec<_> = candidates
        .iter()
        .map(|candidate| format!("`{candidate}`"))
        .collect();
    Some(format!("the {what} are {}", list.join(", ")))
}

/// Whether the value of `key` may be a secret; a near miss of such a word (`passwrd`) counts too.
///
/// `token_env` and `token_file` only name the place of one.
pub(super) fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 5] = ["token", "password", "passwd", "passphrase", "secret"];
    matches!(key, "api_key" | "private_key") || has_word(key, &WORDS)
}

/// Whether `text` holds a URL with a user and perhaps a password.
pub(super) fn has_credentials(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether `key` is a block of secrets, in which a secret may stand by mistake.
pub(super) fn is_secret_block(key: &str) -> bool {
    const WORDS: [&str; 4] = ["auth", "authentication", "credential", "credentials"];
    has_word(key, &WORDS)
}

fn has_word(key: &str, words: &[&str]) -> bool {
    let segments = || key.split(['_', '-', '.']);
    // `auto` is three quarters of `auth`, and no slip for it.
    let like = |segment: &str, word| strsim::normalized_damerau_levenshtein(segment, word) > 0.75;
    key.len() <= LONGEST_WORD
        && !matches!(segments().next_back(), Some("env" | "file" | "path"))
        && segments().any(|segment| {
            let segment = segment.to_ascii_lowercase();
            words.iter().any(|word| like(&segment, word))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_keys() {
        for key in [
            "token",
            "password",
            "passwrd",
            "acl_token",
            "client-secret",
            "Token",
            "api_key",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "token_env",
            "token_file",
            "key_file",
            "address",
            "author",
            "path",
            "key_prefix",
            "username",
        ] {
            assert!(!is_secret(key), "{key}");
        }
        for (key, block) in [("authentication", true), ("auth", true), ("auto_register", false)] {
            assert_eq!(is_secret_block(key), block, "{key}");
        }
    }

    #[test]
    fn suggests_near_misses_only() {
        let keys = ["address", "datacenter"];
        assert_eq!(
            suggestion("adress", &keys, "keys").unwrap(),
            "did you mean `address`?"
        );
        assert_eq!(
            suggestion("zebra", &keys, "keys").unwrap(),
            "the keys are `address`, `datacenter`"
        );
        assert_eq!(closest(&"a".repeat(1 << 20), keys), None);
    }

    #[test]
    fn shortens_at_characters() {
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(shorten("äö", 2), "äö");
    }
}
