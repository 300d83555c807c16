//! A Django project as `startproject` makes it, with its admin, on a port of its own.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{eventually, free_port, python_home};

/// A running site; killed when dropped.
pub(super) struct Django {
    pub(super) url: String,
    process: Child,
    _dir: TempDir,
}

impl Django {
    /// A new site, whose only user is this superuser.
    pub(super) fn start(user: &str, email: &str, password: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        run(dir.path(), &["-m", "django", "startproject", "panel", "."], &[]);
        run(dir.path(), &["manage.py", "migrate", "--verbosity", "0"], &[]);
        let superuser = [
            ("DJANGO_SUPERUSER_USERNAME", user),
            ("DJANGO_SUPERUSER_EMAIL", email),
            ("DJANGO_SUPERUSER_PASSWORD", password),
        ];
        run(dir.path(), &["manage.py", "createsuperuser", "--noinput"], &superuser);
        let address = format!("127.0.0.1:{}", free_port());
        let log = File::create(dir.path().join("django.log")).expect("a file");
        let process = python(dir.path())
            .args(["manage.py", "runserver", "--noreload", &address])
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("python runs");
        eventually("Django answers", Duration::from_secs(60), || TcpStream::connect(&address).ok());
        Self { url: format!("http://{address}"), process, _dir: dir }
    }
}

impl Drop for Django {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn python(dir: &Path) -> Command {
    let mut python = Command::new(python_home().join("bin/python"));
    python.current_dir(dir).stdin(Stdio::null());
    python
}

fn run(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) {
    let output = python(dir).args(arguments).envs(environment.iter().copied()).output().expect("python runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python {arguments:?}: {told}");
}
