//! A PostgreSQL server of a test's own: Debian's, on a free port, gone with the test.

use std::{
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// What the server is started with besides: enough for change triggers.
const SETTINGS: &str = "-c wal_level=logical -c fsync=off -c max_replication_slots=4 -c max_wal_senders=8";

/// A server with the role `app` (password `s3cret`, may replicate) and its database `shop`. Roles log in as their password
/// was stored: by SCRAM, or by MD5.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    settings: String,
}

impl Postgres {
    /// Starts one; nothing when the machine has none.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::with(SETTINGS)
    }

    /// Starts one with other settings.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    #[must_use]
    pub fn with(settings: &str) -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let bin = versions
            .map(|version| version.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
            .max()?;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))
            .expect("open the folder");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let own = Self { bin, folder, port, settings: settings.to_owned() };
        let mut initdb = own.command("initdb");
        initdb.args(["--auth-local=trust", "--auth-host=md5", "-U", "postgres", "-E", "UTF8", "-N", "-D"]);
        succeed(initdb.arg(own.data()));
        if settings.contains("ssl=on") {
            own.certify();
        }
        own.run();
        own.sql_in("postgres", "CREATE ROLE app LOGIN REPLICATION PASSWORD 's3cret'");
        own.sql_in("postgres", "CREATE DATABASE shop OWNER app");
        Some(own)
    }

    /// Gives it a certificate of its own making, which no authority knows.
    fn certify(&self) {
        let data = self.data();
        let mut openssl = self.as_owner(Path::new("openssl"));
        openssl.args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=db", "-out",
        ]);
        succeed(openssl.arg(data.join("server.crt")).arg("-keyout").arg(data.join("server.key")));
    }

    /// Starts it again after [`Postgres::stop`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn run(&self) {
        let (port, socket) = (self.port, self.folder.path().display());
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={socket} {}",
            self.settings
        );
        let mut start = self.command("pg_ctl");
        start.args(["start", "-w", "-t", "120", "-o", &options, "-D"]).arg(self.data());
        succeed(start.arg("-l").arg(self.folder.path().join("log")));
    }

    /// Stops it as the power does, or after it wrote all down.
    pub fn stop(&self, at_once: bool) {
        let how = if at_once { "immediate" } else { "fast" };
        // A server that is stopped already stays so.
        let _ = self.command("pg_ctl").args(["stop", "-w", "-m", how, "-D"]).arg(self.data()).output();
    }

    /// Where it is, for the role `app`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("app:s3cret")
    }

    /// Where it is, for a role and its password.
    #[must_use]
    pub fn url_of(&self, who: &str) -> String {
        format!("postgres://{who}@127.0.0.1:{}/shop", self.port)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL in `shop` as `app`, its statements one transaction, and gives what `psql` prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, sql: &str) -> String {
        self.psql("app", "shop", sql)
    }

    /// Runs SQL in a database as the superuser.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        self.psql("postgres", database, sql)
    }

    /// The names of the slots and publications that are there.
    #[must_use]
    pub fn left(&self) -> String {
        let names = "SELECT slot_name FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication";
        self.sql_in("shop", names).trim().to_owned()
    }

    fn psql(&self, user: &str, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-AtXq", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-h"])
            .arg(self.folder.path());
        psql.args(["-p", &self.port.to_string(), "-c", sql]);
        String::from_utf8(succeed(&mut psql).stdout).expect("text")
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as the user that it runs as: PostgreSQL does not run as root.
    fn command(&self, program: &str) -> Command {
        self.as_owner(&self.bin.join(program))
    }

    fn as_owner(&self, program: &Path) -> Command {
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let mut command = if root { Command::new("runuser") } else { Command::new(program) };
        if root {
            command.args(["-u", "postgres", "--"]).arg(program);
        }
        command.current_dir(Path::new("/"));
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop(true);
    }
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("run a program of PostgreSQL");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
