use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    fn file(&self, path: &str, text: &str, mode: u32) -> PathBuf {
        self.bytes(path, text.as_bytes(), mode)
    }

    fn bytes(&self, path: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let full = self.root().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(&full, bytes).unwrap();
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).unwrap();
        full
    }

    fn program(&self, path: &str) -> PathBuf {
        self.bytes(path, &elf::tests::smallest(), 0o755)
    }

    fn search(&self) -> Search {
        Search {
            path: self.root().join("bin").display().to_string(),
            folder: self.root(),
            pyenv_version: None,
        }
    }

    #[track_caller]
    fn refused(&self, name: &str, cause: Cause, detail: &str, hint: &str) {
        let LaunchError(diagnosis) = self.search().resolve(Path::new(name)).unwrap_err();
        assert_eq!(diagnosis.cause, cause, "{diagnosis:?}");
        assert!(diagnosis.detail.contains(detail), "{diagnosis:?}");
        assert!(diagnosis.hint.as_deref().unwrap_or("").contains(hint), "{diagnosis:?}");
        assert!(diagnosis.permanent);
    }
}

#[test]
fn a_name_is_found_in_path_and_a_relative_path_from_the_folder() {
    let tree = Tree::new();
    let server = tree.program("bin/server");
    assert_eq!(tree.search().resolve(Path::new("server")).unwrap().path, server);
    assert_eq!(tree.search().resolve(Path::new("bin/server")).unwrap().path, server);
    assert_eq!(tree.search().resolve(&server).unwrap().binaries, [server]);
}

#[test]
fn links_and_interpreters_are_followed_to_the_end() {
    let tree = Tree::new();
    let python = tree.program("versions/3/bin/python3.11");
    tree.file(
        "venv/pyvenv.cfg",
        &format!("home = {}\nversion = 3.11\n", tree.root().join("versions/3/bin").display()),
        0o644,
    );
    fs::create_dir_all(tree.root().join("venv/bin")).unwrap();
    symlink(&python, tree.root().join("venv/bin/python3")).unwrap();
    symlink("python3", tree.root().join("venv/bin/python")).unwrap();
    let shebang = format!("#!{}\nserve()\n", tree.root().join("venv/bin/python").display());
    let script = tree.file("venv/bin/serve", &shebang, 0o755);
    let program = tree.search().resolve(&script).unwrap();
    assert_eq!(program.path, script);
    assert_eq!(program.binaries, std::slice::from_ref(&python));
    let names: Vec<_> =
        program.hops.iter().map(|h| h.path.strip_prefix(tree.root()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["venv/bin/serve", "venv/bin/python", "venv/bin/python3", "versions/3/bin/python3.11"]);
    assert_eq!(program.hops.iter().map(|h| h.is_final).collect::<Vec<_>>(), [true, false, false, true]);
    let venv = program.hops[1].venv.clone().unwrap();
    assert_eq!(venv, Venv { folder: tree.root().join("venv"), home: python.parent().map(Path::to_owned) });
}

#[test]
fn env_in_a_first_line_is_looked_through() {
    let tree = Tree::new();
    let python = tree.program("bin/python3");
    for line in ["#!/usr/bin/env python3", "#!/usr/bin/env -S python3 -u", "#! /usr/bin/env X=1 python3 "] {
        let script = tree.file("serve.py", &format!("{line}\n"), 0o755);
        assert_eq!(tree.search().resolve(&script).unwrap().binaries, std::slice::from_ref(&python), "{line}");
    }
}

#[test]
fn a_pyenv_shim_gives_way_to_the_real_interpreter() {
    let tree = Tree::new();
    let shim = tree.file("pyenv/shims/python3", "#!/usr/bin/env bash\nexec pyenv exec\n", 0o755);
    let old = tree.program("pyenv/versions/3.8.1/bin/python3");
    let new = tree.program("pyenv/versions/3.11.7/bin/python3");
    tree.file("pyenv/version", "9.9.9\n3.11.7\n", 0o644);
    let mut search = tree.search();
    search.path = shim.parent().unwrap().display().to_string();
    assert_eq!(search.resolve(Path::new("python3")).unwrap().path, new);
    assert_eq!(search.resolve(&shim).unwrap().path, new);
    search.pyenv_version = Some("3.8.1".into());
    assert_eq!(search.resolve(Path::new("python3")).unwrap().path, old);
}

#[test]
fn each_refusal_says_what_and_what_to_do() {
    let tree = Tree::new();
    tree.refused("nowhere", Cause::ProgramMissing, "in no folder of PATH", "full path");
    tree.refused("bin/nowhere", Cause::ProgramMissing, "no such file", "check the path");
    tree.refused("", Cause::ProgramMissing, "no program is named", "PROGRAM");
    tree.file("plain", "text", 0o644);
    tree.refused("./plain", Cause::ProgramNotExecutable, "may not be executed", "chmod +x");
    tree.file("text", "echo", 0o755);
    tree.refused("./text", Cause::ProgramNotExecutable, "neither a program", "interpreter");
    tree.file("bad", "#!/no/such/interpreter -x\n", 0o755);
    tree.refused("./bad", Cause::ProgramMissing, "/no/such/interpreter", "first line");
    tree.file("badenv", "#!/usr/bin/env nopython\n", 0o755);
    tree.refused("./badenv", Cause::ProgramMissing, "interpreter", "first line");
    tree.file("empty", "#!\n", 0o755);
    tree.refused("./empty", Cause::ProgramNotExecutable, "names no interpreter", "first line");
    tree.file("damaged", "\x7fELF", 0o755);
    tree.refused("./damaged", Cause::ProgramNotExecutable, "damaged or cut off", "whole");
    fs::create_dir(tree.root().join("folder")).unwrap();
    tree.refused("./folder", Cause::ProgramNotExecutable, "a folder", "inside");
    symlink("loop", tree.root().join("loop")).unwrap();
    tree.refused("./loop", Cause::ProgramMissing, "no such file", "");
}

#[test]
fn what_path_has_and_cannot_run_is_named_unless_a_later_folder_has_it() {
    let tree = Tree::new();
    let search = |path: String| Search { path, folder: tree.root(), pyenv_version: None };
    let refused = |path: &str, name: &str| search(path.into()).resolve(Path::new(name)).unwrap_err().0;
    let lies = tree.file("bin/server", "text", 0o644);
    tree.refused("server", Cause::ProgramNotExecutable, lies.to_str().unwrap(), "chmod +x");
    let later = tree.program("later/server");
    let both = format!("{}:{}", tree.root().join("bin").display(), tree.root().join("later").display());
    assert_eq!(search(both).resolve(Path::new("server")).unwrap().path, later);
    // The kernel mounts no /proc without noexec unless it is told to.
    let is_noexec =
        rustix::fs::statvfs("/proc/self/status").unwrap().f_flag.contains(StatVfsMountFlags::NOEXEC);
    if is_noexec {
        let told = refused("/nowhere:/proc/self", "status");
        assert_eq!(told.cause, Cause::ProgramNotExecutable, "{told:?}");
        assert!(told.detail.contains("/proc/self/status") && told.detail.contains("noexec"), "{told:?}");
    }
    tree.file("bin/python9", "text", 0o644);
    tree.file("bin/start", "#!/usr/bin/env python9\n", 0o755);
    tree.refused("start", Cause::ProgramNotExecutable, "python9", "chmod +x");
}

#[test]
fn scripts_that_interpret_each_other_end() {
    let tree = Tree::new();
    let a = tree.root().join("a");
    tree.file("b", &format!("#!{}\n", a.display()), 0o755);
    tree.file("a", &format!("#!{}\n", tree.root().join("b").display()), 0o755);
    tree.refused("./a", Cause::ProgramNotExecutable, "without end", "real program");
}

#[test]
fn files_in_arguments_are_seen_with_and_without_a_flag() {
    let tree = Tree::new();
    let file = tree.file("t.jinja", "x", 0o644);
    let text = file.display().to_string();
    assert_eq!(file_named_by(&text), Some(file.clone()));
    assert_eq!(file_named_by(&format!("--template={text}")), Some(file));
    assert_eq!(file_named_by("t.jinja"), None);
    assert_eq!(file_named_by(&tree.root().display().to_string()), None);
}
