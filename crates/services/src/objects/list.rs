//! Listing a bucket: by prefix, rolled up at a delimiter, page by page.

use rouse_store::records::PAGE_MAX;

use super::{
    Caller, Error, Object, Objects, name,
    record::{self, OBJECTS},
};

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// What keys begin with.
    pub prefix: String,
    /// Keys that have this behind the prefix are rolled up: only what is up to it is listed, once.
    pub delimiter: Option<String>,
    /// Only what comes after this: a key, or what keys are rolled up to.
    pub after: Option<String>,
    /// How many at most, cut to 1,000.
    pub limit: usize,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An object with its key.
    Object(String, Box<Object>),
    /// What keys have in common up to the delimiter.
    Prefix(String),
}

impl Entry {
    /// What it is listed under.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Object(key, _) => key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of bytes.
    pub entries: Vec<Entry>,
    /// Whether there are more behind the last.
    pub more: bool,
}

impl Objects {
    /// A page of a bucket's listing. Pages are not consistent with each other.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn list(&self, caller: &Caller, bucket: &str, query: &Query) -> Result<Listing, Error> {
        self.0.bucket(caller, bucket).await?;
        let mut listing = Listing::default();
        if query.limit == 0 {
            return Ok(listing);
        }
        let limit = query.limit.min(PAGE_MAX);
        let base = record::object_key(&caller.tenant, bucket, "");
        let prefix = format!("{base}{}", name::encode(&query.prefix));
        let mut after = query.after.as_deref().map(|after| match rolled_up(query, after) {
            Some(rolled) if rolled == after => format!("{base}{}{}", name::encode(after), name::BEYOND),
            _ => format!("{base}{}", name::encode(after)),
        });
        loop {
            // One more than fits tells whether there are more; what is rolled up may need further pages.
            let wanted = limit + 1 - listing.entries.len();
            let page = self.0.records.scan(OBJECTS, &prefix, after.as_deref(), wanted).await?;
            let mut skip: Option<String> = None;
            for found in &page.records {
                if skip.as_ref().is_some_and(|skip| found.key < *skip) {
                    continue;
                }
                let key = name::decode(&found.key[base.len()..])
                    .ok_or_else(|| Error::Invalid(format!("the record {} is not ours", found.key)))?;
                let rolled = rolled_up(query, &key).map(str::to_owned);
                let entry = match rolled {
                    Some(rolled) => {
                        skip = Some(format!("{base}{}{}", name::encode(&rolled), name::BEYOND));
                        // What was rolled up on an earlier page, or is before what is asked for.
                        if query.after.as_ref().is_some_and(|after| rolled <= *after) {
                            continue;
                        }
                        Entry::Prefix(rolled)
                    }
                    None => Entry::Object(key, Box::new(record::read(found)?)),
                };
                if listing.entries.len() == limit {
                    listing.more = true;
                    return Ok(listing);
                }
                listing.entries.push(entry);
            }
            let Some(next) = page.next else { return Ok(listing) };
            after = Some(skip.filter(|skip| *skip > next).unwrap_or(next));
        }
    }
}

/// What a key is rolled up to, if it has the delimiter behind the prefix.
fn rolled_up<'a>(query: &Query, key: &'a str) -> Option<&'a str> {
    let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.strip_prefix(&*query.prefix)?;
    let end = rest.find(delimiter)? + delimiter.len();
    Some(&key[..query.prefix.len() + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_rolled_up_behind_the_prefix() {
        let query = |prefix: &str, delimiter: &str| Query {
            prefix: prefix.to_owned(),
            delimiter: Some(delimiter.to_owned()),
            ..Query::default()
        };
        assert_eq!(rolled_up(&query("", "/"), "a/b/c"), Some("a/"));
        assert_eq!(rolled_up(&query("a/", "/"), "a/b/c"), Some("a/b/"));
        assert_eq!(rolled_up(&query("a/", "/"), "a/b"), None);
        assert_eq!(rolled_up(&query("", "--"), "x--y"), Some("x--"));
        assert_eq!(rolled_up(&query("", ""), "a/b"), None);
    }
}
