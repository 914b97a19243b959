//! Splits bytes into lines and cuts those that are too long.

use rouse_types::log::LINE_BYTES_MAX;

/// Splits bytes into lines and cuts those that are too long.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
    cut: u64,
}

impl Splitter {
    pub(super) fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8], u64)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.add(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            take(line, self.cut);
            self.line.clear();
            self.cut = 0;
        }
        self.add(bytes);
    }

    pub(super) fn end(&mut self, mut take: impl FnMut(&[u8], u64)) {
        if !self.line.is_empty() {
            take(&self.line, self.cut);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(LINE_BYTES_MAX - self.line.len());
        self.line.extend_from_slice(&bytes[..fits]);
        self.cut += (bytes.len() - fits) as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for part in parts {
            splitter.push(part, |line, cut| lines.push((line.to_vec(), cut)));
        }
        splitter.end(|line, cut| lines.push((line.to_vec(), cut)));
        lines
    }

    #[test]
    fn a_line_may_come_in_parts_and_the_last_needs_no_end() {
        assert_eq!(
            split(&[b"a", b"b\r\nc\n", b"d"]),
            [(b"ab".to_vec(), 0), (b"c".to_vec(), 0), (b"d".to_vec(), 0)]
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_what_is_lost_is_counted() {
        let flood = vec![b'x'; LINE_BYTES_MAX + 100];
        let lines = split(&[&flood, b"yy\n"]);
        assert_eq!(lines, [(vec![b'x'; LINE_BYTES_MAX], 102)]);
    }

    proptest! {
        #[test]
        fn however_bytes_are_parted_the_lines_are_the_same(text in "[ab\n]{0,200}", at in 0usize..200) {
            let (left, right) = text.as_bytes().split_at(at.min(text.len()));
            prop_assert_eq!(split(&[left, right]), split(&[text.as_bytes()]));
        }
    }
}
