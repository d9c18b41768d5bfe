//! PostgreSQL as Inventory's: with logical decoding, on loopback, in a folder of its own.
//!
//! Not here: durability. Nothing in it outlives its test, so nothing is forced to disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::postgres::{Client, Config, NoTls};

use super::parts::Parts;
use super::programs::{Program, command, free_port, is_root, run};

/// The user that Debian's package makes.
const USER: &str = "postgres";

/// The database of Inventory.
const DATABASE: &str = "inventory";

/// Settings for tests on a small machine, all on one line of the command.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "wal_level=logical",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "shared_buffers=32MB",
    "max_wal_senders=8",
    "max_replication_slots=8",
];

/// A running PostgreSQL.
pub struct Postgres {
    port: u16,
    _program: Program,
}

impl Postgres {
    /// Starts one with an empty database.
    pub fn start(programs: &Path, folder: &Path) -> Self {
        let data = folder.join("postgres");
        fs::create_dir(&data).expect("an empty folder");
        let user = is_root().then_some(USER);
        if user.is_some() {
            // Only the owner may enter a temporary folder; PostgreSQL must get through to its own.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).expect("ours");
            let [uid, gid] = ["-u", "-g"].map(|which| Some(id(which)));
            chown(&data, uid, gid).expect("root may");
        }
        let mut initdb = command(&programs.join("initdb"), user);
        initdb.args(["--username", USER, "--auth", "trust", "--no-sync", "--no-locale", "--encoding", "UTF8", "-D"]);
        run(initdb.arg(&data).current_dir("/")).expect("initdb works");
        let port = free_port();
        let mut server = command(&programs.join("postgres"), user);
        server.arg("-D").arg(&data).args(["-p", &port.to_string()]).current_dir("/");
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let mut program = Program::start(server, &folder.join("postgres.log"));
        let mut administrator = None;
        program.until("PostgreSQL accepts connections", Duration::from_secs(60), || {
            administrator = connected(port, USER).ok();
            administrator.is_some()
        });
        let mut administrator = administrator.expect("it was waited for");
        administrator.batch_execute(&format!("CREATE DATABASE {DATABASE}")).expect("a new database");
        Self { port, _program: program }
    }

    /// Where the database is, in the variables that the shipped settings of the connector name.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let port = self.port.to_string();
        [
            ("INVENTORY_DATABASE_HOST", "127.0.0.1"),
            ("INVENTORY_DATABASE_PORT", port.as_str()),
            ("INVENTORY_DATABASE_USER", USER),
            // Nobody asks for one.
            ("INVENTORY_DATABASE_PASSWORD", "none"),
            ("INVENTORY_DATABASE_NAME", DATABASE),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
    }

    /// Runs a file of SQL as `compose.yaml` does, with these variables.
    pub fn run(&self, parts: &Parts, file: &str, variables: &[&str]) -> Result<(), String> {
        let mut psql = command(&parts.postgres().join("psql"), None);
        psql.args(["--no-psqlrc", "--file", file]);
        for variable in variables {
            psql.args(["-v", variable]);
        }
        psql.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string());
        run(psql.env("PGUSER", USER).env("PGDATABASE", DATABASE))
    }

    /// A connection to Inventory's database.
    pub fn client(&self) -> Client {
        self.client_of(DATABASE)
    }

    /// A connection to any of its databases.
    pub fn client_of(&self, database: &str) -> Client {
        connected(self.port, database).expect("PostgreSQL is there")
    }

    /// Whether somebody reads a replication slot.
    pub fn slot_is_read(&self, slot: &str) -> bool {
        let sql = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client().query_opt(sql, &[&slot]).expect("a catalog");
        row.is_some_and(|row| row.get(0))
    }
}

fn connected(port: u16, database: &str) -> Result<Client, ::postgres::Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(USER).dbname(database).connect_timeout(Duration::from_secs(10));
    config.connect(NoTls)
}

/// The id of PostgreSQL's user or of its group.
fn id(which: &str) -> u32 {
    let output = Command::new("id").args([which, USER]).output().expect("`id` is there");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("the package has made the user")
}
