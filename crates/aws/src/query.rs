//! Queries and forms, as clients of AWS write them.

use rouse_api::percent::decode;

/// The pairs of a query or of a form, decoded. What is malformed stands for itself.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let read = |text: &str| {
                let text = text.replace('+', " ");
                decode(&text).unwrap_or(text)
            };
            (read(name), read(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("a=1&b=x%20y+z&c&&d="),
            [pair("a", "1"), pair("b", "x y z"), pair("c", ""), pair("d", "")]
        );
        assert_eq!(pairs("a=%zz"), [pair("a", "%zz")]);
    }
}
