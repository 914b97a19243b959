//! Reads the parts of a message, never beyond its end.

use super::Error;

/// What is left of a message. Numbers are in network byte order.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Error::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Error::Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }
    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }
    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }
    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }
    pub(super) fn i64(&mut self) -> Result<i64, Error> {
        self.array().map(i64::from_be_bytes)
    }

    /// A byte that must be this one.
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), Error> {
        let found = self.u8()?;
        if found == wanted { Ok(()) } else { Err(Error::Kind(char::from(found))) }
    }

    /// Text up to a zero byte.
    pub(super) fn text(&mut self) -> Result<String, Error> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Error::Short)?;
        let text = std::str::from_utf8(self.bytes(end)?).map_err(|_| Error::Encoding)?.to_owned();
        self.u8()?;
        Ok(text)
    }
}
