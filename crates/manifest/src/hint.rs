//! Guesses what was meant by a word that is not known.

/// What other platforms call the things that have a key here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("environment", "env"),
    ("environment_variables", "env"),
    ("variables", "env"),
    ("memory_size", "memory"),
    ("memory_mib", "memory"),
    ("memory_mb", "memory"),
    ("ephemeral_storage", "tmp"),
    ("max_instances", "concurrency_max"),
    ("reserved_concurrency", "concurrency_max"),
    ("concurrency", "concurrency_max"),
    ("code", "source"),
    ("code_uri", "source"),
    ("path", "source"),
    ("entrypoint", "handler"),
    ("entry_point", "handler"),
    ("main", "handler"),
    ("allowed_outbound_hosts", "egress"),
    ("network", "egress"),
    ("sandbox", "isolation"),
    ("allow_unauthenticated", "invoke"),
    ("auth_level", "invoke"),
    ("auth_type", "invoke"),
    ("duration", "timeout"),
    ("function", "functions"),
];

/// The one of `known` that was probably meant.
pub(crate) fn meant<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = word.to_ascii_lowercase().replace('-', "_");
    let elsewhere = ELSEWHERE.iter().find(|(theirs, _)| *theirs == plain).map(|(_, ours)| *ours);
    if let Some(found) = elsewhere.and_then(|ours| known.iter().find(|key| **key == ours)) {
        return Some(found);
    }
    // One typing error in three letters is a typing error; more is another word.
    let allowed = (plain.chars().count() / 3).max(1);
    let closest = known.iter().map(|key| (distance(&plain, key), *key)).min()?;
    (closest.0 <= allowed).then_some(closest.1)
}

/// Letters to insert, delete, replace or swap with their neighbour to get from one word to the other
/// (optimal string alignment). Words longer than any key are as far away as can be.
fn distance(left: &str, right: &str) -> usize {
    const CHARS_MAX: usize = 64;
    let left: Vec<char> = left.chars().take(CHARS_MAX + 1).collect();
    let right: Vec<char> = right.chars().take(CHARS_MAX + 1).collect();
    if left.len() > CHARS_MAX || right.len() > CHARS_MAX {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replace = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["source", "timeout", "init_timeout", "memory", "env", "concurrency_max"];

    #[test]
    fn a_typing_error_finds_its_key() {
        for (typed, key) in [
            ("timout", "timeout"),
            ("Memory", "memory"),
            ("souce", "source"),
            ("eNv", "env"),
            ("meomry", "memory"),
        ] {
            assert_eq!(meant(typed, KEYS), Some(key), "{typed}");
        }
    }

    #[test]
    fn the_words_of_other_platforms_are_known() {
        assert_eq!(meant("environment", KEYS), Some("env"));
        assert_eq!(meant("MemorySize", KEYS), None);
        assert_eq!(meant("memory-size", KEYS), Some("memory"));
        assert_eq!(meant("concurrency", KEYS), Some("concurrency_max"));
    }

    #[test]
    fn another_word_is_not_guessed_at() {
        assert_eq!(meant("database", KEYS), None);
        assert_eq!(meant(&"x".repeat(10_000), KEYS), None);
        assert_eq!(meant("", KEYS), None);
    }
}
