//! The operator's certificates: read with the supervisor's privileges, handed over to processes without.
//!
//! ```text
//!  start: read, check ─▶ hand over          wrong: the platform does not start
//!  later: SIGHUP, or a file has changed ─▶ read, check ─▶ hand over
//!                                            └─ wrong: what was before stays in force, and the log says so
//! ```

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use rouse_control::Acme;
use rouse_tls::{FILES, Mark, Sources};
use rouse_types::{Clock as _, SystemClock};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::layout::State;
use crate::cli::args::TlsArgs;

/// How often the files are looked at: those who renew certificates do so weeks before the end.
const LOOK: Duration = Duration::from_secs(10);

/// What is followed while the platform runs.
#[derive(Debug)]
pub(super) struct Files {
    sources: Sources,
    state: PathBuf,
    owner: Option<(u32, u32)>,
    /// As they were when they were last read.
    marks: Vec<Mark>,
}

/// Hands the certificates over for the first time. Nothing where HTTPS is off.
pub(super) fn prepare(state: &State, args: &TlsArgs) -> anyhow::Result<Option<(SocketAddr, Files)>> {
    let Some(listen) = args.tls_listen else {
        // Keys that are of no use any more.
        let _ = std::fs::remove_file(state.path.join(FILES));
        return Ok(None);
    };
    if args.tls_certificate.len() != args.tls_key.len() {
        bail!(
            "--tls-certificate is there {} times and --tls-key {} times\nhint: each certificate has its key, in the \
             same order",
            args.tls_certificate.len(),
            args.tls_key.len()
        );
    }
    let pairs = args.tls_certificate.iter().cloned().zip(args.tls_key.iter().cloned()).collect();
    let sources = Sources { pairs, folders: args.tls_folder.clone() };
    if sources.is_empty() && !args.acme {
        bail!(
            "--tls-listen needs certificates\nhint: name them by --tls-certificate and --tls-key, or by --tls-folder, \
             or have them got by --acme"
        );
    }
    let owner = state.unprivileged.map(|user| (user.uid, user.gid));
    let mut files = Files { sources, state: state.path.clone(), owner, marks: Vec::new() };
    files.hand_over()?;
    Ok(Some((listen, files)))
}

/// The authority that certificates are got from, if one is.
pub(super) fn acme(args: &TlsArgs) -> anyhow::Result<Option<Acme>> {
    if !args.acme {
        return Ok(None);
    }
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("read {} (--acme-ca)", path.display()))
    };
    let acme = Acme {
        directory: args.acme_directory.clone(),
        contact: args.acme_contact.clone(),
        // Read here: control may not be able to.
        ca: args.acme_ca.as_ref().map(read).transpose()?,
    };
    acme.check().map_err(|wrong| anyhow::anyhow!("--acme: {wrong}"))?;
    Ok(Some(acme))
}

impl Files {
    fn hand_over(&mut self) -> anyhow::Result<()> {
        self.marks = self.sources.marks();
        let pairs = self.sources.read().context("read the certificates")?;
        rouse_tls::hand_over(&self.state, FILES, &pairs, self.owner).context("hand over the certificates")?;
        let now = SystemClock.now();
        for certificate in pairs.iter().filter_map(|pair| pair.load().ok()) {
            let (from, names) = (certificate.from, certificate.names.join(" "));
            if certificate.not_after <= now {
                tracing::warn!(from, names, "a certificate has expired: clients will not believe it");
            } else {
                let days = certificate.not_after.since(now).as_secs() / 86_400;
                tracing::info!(from, names, days, "a certificate is in force");
            }
        }
        Ok(())
    }

    /// Hands over what changes, until `stop`.
    pub(super) async fn follow(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = hangup.recv() => true,
                () = sleep(LOOK) => false,
            };
            if !asked && self.sources.marks() == self.marks {
                continue;
            }
            if let Err(error) = self.hand_over() {
                let error = format!("{error:#}");
                tracing::error!(error, "certificates cannot be used; those before stay in force");
            }
        }
    }
}
