//! Reads pip's requirements files, as far as one must know what they name before pip runs: pip's documentation,
//! "Requirements File Format". Pure but for the reader that is handed in.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};

use super::needs::leads_out;
use crate::cli::report::hinted;

/// The file that pip is given.
pub(crate) const FILE: &str = "requirements.txt";
/// Files that include each other without end stop here.
const FILES_MAX: usize = 64;

/// What the files name, those that they include among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    /// How many packages are asked for.
    pub(super) count: usize,
    /// The files.
    pub(super) files: BTreeSet<String>,
    /// Whether one is a folder or file beside them.
    pub(super) local: bool,
    pub(super) urls: BTreeSet<String>,
    pub(super) variables: BTreeSet<String>,
    /// Those without `==`.
    pub(super) loose: Vec<String>,
}

/// Reads [`FILE`] and all that it includes.
pub(super) fn read(open: &dyn Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<Requirements> {
    let mut all = Requirements::default();
    // What only constrains asks for nothing.
    let mut waiting = vec![(FILE.to_owned(), true)];
    while let Some((file, asks)) = waiting.pop() {
        if !all.files.insert(file.clone()) {
            continue;
        }
        if all.files.len() > FILES_MAX {
            bail!("{FILE} includes more than {FILES_MAX} files");
        }
        let text = open(&file)?;
        all.variables.extend(variables(&text));
        for (number, line) in lines(&text) {
            let at = || format!("{file}, line {number}");
            match word(&line) {
                Word::Include(path) | Word::Constrain(path) if path.contains("://") => {
                    all.urls.insert(path.to_owned());
                }
                Word::Include(path) => waiting.push((beside(&file, path).with_context(at)?, asks)),
                Word::Constrain(path) => waiting.push((beside(&file, path).with_context(at)?, false)),
                Word::Index(url) => {
                    all.local |= !url.contains("://");
                    all.urls.extend(url.contains("://").then(|| url.to_owned()));
                }
                Word::Editable => bail!(hinted(
                    format!("{}: an editable install cannot be packed", at()),
                    "leave out the -e: the package itself is then installed",
                )),
                Word::Option => {}
                Word::Package(_) if !asks => {}
                Word::Package(package) => {
                    all.count += 1;
                    take(&mut all, package, &at)?;
                }
            }
        }
    }
    Ok(all)
}

fn take(all: &mut Requirements, package: &str, at: &dyn Fn() -> String) -> anyhow::Result<()> {
    let (name, place) = match package.split_once(" @ ") {
        Some((name, place)) => (name, Some(place.trim())),
        None => (package, (package.starts_with('.') || package.contains('/')).then_some(package)),
    };
    match place {
        Some(url) if url.contains("://") && !url.starts_with("file:") => {
            let url = url.split([' ', ';']).next().unwrap_or(url);
            all.urls.insert(url.trim_start_matches("git+").to_owned());
        }
        Some(path) => {
            let path = path.trim_start_matches("file:");
            if path.starts_with('/') || leads_out(path) {
                bail!(hinted(
                    format!("{}: {path} is outside of the function's folder", at()),
                    "copy it into the folder",
                ));
            }
            all.local = true;
        }
        None if !package.contains("==") => {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
            all.loose.push(name[..end.unwrap_or(name.len())].to_owned());
        }
        None => {}
    }
    Ok(())
}

/// A line's meaning.
enum Word<'a> {
    Package(&'a str),
    Include(&'a str),
    Constrain(&'a str),
    Index(&'a str),
    Editable,
    Option,
}

fn word(line: &str) -> Word<'_> {
    let value = |names: &[&str]| {
        names.iter().find_map(|name| {
            let rest = line.strip_prefix(name)?;
            // `-rbase.txt` is right, too; `--requirementx` is not.
            let apart = rest.starts_with([' ', '\t', '=']) || !name.starts_with("--");
            apart.then(|| rest.trim_start_matches(['=', ' ', '\t']).trim())
        })
    };
    if !line.starts_with('-') {
        return Word::Package(line);
    }
    if let Some(path) = value(&["--requirement", "-r"]) {
        return Word::Include(path);
    }
    if let Some(path) = value(&["--constraint", "-c"]) {
        return Word::Constrain(path);
    }
    if let Some(url) = value(&["--index-url", "--extra-index-url", "--find-links", "-i", "-f"]) {
        return Word::Index(url);
    }
    if value(&["--editable", "-e"]).is_some() {
        return Word::Editable;
    }
    Word::Option
}

/// The lines that say something, joined where one goes on, with the number that each begins at.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, mut line) = match open.take() {
            Some((number, before)) => (number, before + line.trim_start()),
            None => (index + 1, line.to_owned()),
        };
        if let Some(before) = line.strip_suffix('\\') {
            open = Some((number, before.to_owned()));
            continue;
        }
        let comment = if line.starts_with('#') { Some(0) } else { line.find(" #") };
        line.truncate(comment.unwrap_or(line.len()));
        joined.push((number, line.trim().to_owned()));
    }
    joined.extend(open.map(|(number, line)| (number, line.trim().to_owned())));
    joined.retain(|(_, line)| !line.is_empty());
    joined
}

/// A path that a file names, from the function's folder.
fn beside(file: &str, path: &str) -> anyhow::Result<String> {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
    if path.starts_with('/') || leads_out(&joined) {
        bail!(hinted(format!("{path} is outside of the function's folder"), "copy it into the folder"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The line of a requirements file that names a package, in the file's own spelling.
pub(super) fn line_of(text: &str, package: &str) -> Option<usize> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    let wanted = plain(package);
    lines(text).into_iter().find_map(|(number, line)| {
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
        (plain(&line[..end.unwrap_or(line.len())]) == wanted).then_some(number)
    })
}

/// The names in `${NAME}`.
pub(super) fn variables(text: &str) -> BTreeSet<String> {
    let named = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    let plain = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    named.map(|(name, _)| name).filter(plain).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(files: &[(&str, &str)]) -> anyhow::Result<Requirements> {
        read(&|name| {
            let found = files.iter().find(|(file, _)| *file == name);
            found.map(|(_, text)| (*text).to_owned()).with_context(|| format!("no {name}"))
        })
    }

    fn set(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn packages_options_and_included_files_are_told_apart() {
        let found = parse(&[
            (
                "requirements.txt",
                "# mine\n--index-url https://${USER}@mirror.example.com/simple\n-r more/base.txt\n-c pins.txt\n\
                 numpy==2.0 \\\n  --hash=sha256:00\nrequests >=2 # any\nidna\n--only-binary :all:\n",
            ),
            ("more/base.txt", "-r ../other.txt\nsix==1.16.0\n"),
            ("other.txt", "tool @ git+https://git.example.com/x.git@v1\n"),
            ("pins.txt", "urllib3==2.0\n"),
        ])
        .expect("read");
        assert_eq!(found.count, 5);
        assert_eq!(found.files, set(&["more/base.txt", "other.txt", "pins.txt", "requirements.txt"]));
        let urls = ["https://${USER}@mirror.example.com/simple", "https://git.example.com/x.git@v1"];
        assert_eq!(found.urls, set(&urls));
        assert_eq!(
            (found.loose, found.variables),
            (vec!["requests".to_owned(), "idna".to_owned()], set(&["USER"]))
        );
        assert!(!found.local);
    }

    #[test]
    fn what_lies_in_the_folder_is_local_and_what_lies_outside_is_refused() {
        assert!(parse(&[(FILE, "./lib\n")]).expect("read").local);
        assert!(parse(&[(FILE, "wheels/a-1.0-py3-none-any.whl\n")]).expect("read").local);
        for (text, told) in [
            ("../lib\n", "line 1: ../lib is outside"),
            ("six\n-e ./lib\n", "line 2: an editable install"),
            ("-r ../other.txt\n", "../other.txt is outside"),
            ("x @ file:///home/me/x.whl\n", "is outside"),
        ] {
            let error = format!("{:#}", parse(&[(FILE, text)]).expect_err("must be refused"));
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn files_that_include_each_other_are_read_once() {
        let found = parse(&[(FILE, "-r b.txt\na==1\n"), ("b.txt", "-r requirements.txt\nb==1\n")]);
        assert_eq!(found.expect("read").count, 2);
    }

    #[test]
    fn a_package_is_found_whatever_its_spelling() {
        let text = "# x\nsix==1\nZope.Interface >= 5\n";
        assert_eq!(line_of(text, "zope-interface"), Some(3));
        assert_eq!(line_of(text, "zope"), None);
    }
}
