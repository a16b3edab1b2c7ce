// Run pytest in Pyodide: node pyodide.mjs DIRECTORY-OF-PYODIDE PROJECT PYTEST-ARGUMENTS
const [directory, project, ...given] = process.argv.slice(2);
const { loadPyodide } = await import(`${directory}/node_modules/pyodide/pyodide.mjs`);
const python = await loadPyodide();
for (const [name, root] of Object.entries({ project, site: `${directory}/site` })) {
  python.FS.mkdirTree(`/${name}`);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, `/${name}`);
}
python.globals.set("arguments", python.toPy(given));
process.exit(python.runPython(`
import os, sys
print("Python", sys.version.split()[0])
os.chdir("/project")
sys.path[:0] = ["/project/src", "/project", "/site"]
sys.dont_write_bytecode = True
import pytest
int(pytest.main(list(arguments)))
`));
