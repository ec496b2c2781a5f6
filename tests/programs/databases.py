"""MariaDB and memcached."""

from __future__ import annotations

import os
import socket
import threading

from system.lab.processes import LabError, run
from system.lab.workloads import Workload, free_port

STATEMENTS = """
CREATE DATABASE load_test;
USE load_test;
CREATE TABLE one (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(200), blob_ LONGBLOB, KEY (word)) ENGINE=InnoDB;
CREATE TABLE two (id INT PRIMARY KEY, word TEXT) ENGINE=Aria;
INSERT INTO one (word, blob_) SELECT CONCAT('word', seq), REPEAT('x', 5000) FROM seq_1_to_500;
INSERT INTO two SELECT id, word FROM one;
BEGIN; UPDATE one SET word = 'changed' WHERE id < 100; ROLLBACK;
PREPARE ask FROM 'SELECT COUNT(*) FROM one JOIN two USING (id) WHERE one.word LIKE ?';
SET @what = 'word%'; EXECUTE ask USING @what;
SET tmp_memory_table_size = 0;
SELECT word, COUNT(*) AS n FROM one GROUP BY word ORDER BY n, word LIMIT 3;
ALTER TABLE one ADD COLUMN more INT, ALGORITHM=COPY;
CREATE TEMPORARY TABLE three AS SELECT * FROM one;
FLUSH TABLES;
DROP DATABASE load_test;
SELECT 'all done';
"""


class MariaDB(Workload):
    name = "mariadb"
    user = "mysql"
    needs = ("/usr/sbin/mariadbd", "/usr/bin/mariadb", "/usr/bin/mariadb-install-db")

    def prepare(self) -> None:
        self.port = free_port(3300, 3400)
        self._socket = self.directory / "sock"
        self._pristine = self.directory.parent / "pristine"
        self._pristine.mkdir()
        for path in (self.directory, self._pristine):
            os.chown(path, self.uid, self.gid)
        options = ("--user=mysql", "--auth-root-authentication-method=normal", "--skip-test-db", "--cross-bootstrap")
        run(["mariadb-install-db", "--no-defaults", f"--datadir={self._pristine}/data", *options])

    @property
    def argv(self) -> tuple[str, ...]:
        files = (f"--datadir={self.directory}/data", f"--socket={self._socket}", f"--pid-file={self.directory}/pid")
        network = ("--bind-address=127.0.0.1", f"--port={self.port}")
        return ("/usr/sbin/mariadbd", "--no-defaults", *files, *network, "--innodb-buffer-pool-size=16M")

    def reset(self) -> None:
        super().reset()
        run(["cp", "-a", self._pristine / "data", self.directory / "data"])

    def ready(self) -> bool:
        return self._client("SELECT 1", check=False).strip() == "1"

    def load(self) -> None:
        for network in (False, True):
            if "all done" not in (said := self._client(STATEMENTS, network)):
                raise LabError(f"the statements were not executed: {said}")

    def _client(self, statements: str, network: bool = False, check: bool = True) -> str:
        where = ["--protocol=tcp", f"--port={self.port}"] if network else [f"--socket={self._socket}"]
        command = ["mariadb", "--no-defaults", *where, "--user=root", "--batch", "--skip-column-names"]
        return run([*command, f"--execute={statements}"], check=check).stdout


class Memcached(Workload):
    name = "memcached"
    needs = ("/usr/bin/memcached",)

    def prepare(self) -> None:
        self.port = free_port(11200, 11300)

    @property
    def argv(self) -> tuple[str, ...]:
        network = ("-l", "127.0.0.1", "-p", str(self.port))
        return ("/usr/bin/memcached", "-u", "nobody", *network, "-m", "16", "-P", str(self.directory / "pid"))

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        said: list[bytes] = []

        def client(number: int) -> None:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                for turn in range(50):
                    value = b"v" * (turn * 400)
                    connection.sendall(b"set k%d 0 0 %d\r\n%s\r\n" % (number, len(value), value))
                    answer = connection.recv(100)
                connection.sendall(b"get k%d\r\nstats\r\nquit\r\n" % number)
                while data := connection.recv(65536):
                    answer += data
                said.append(answer)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(said) != 8 or not all(each.startswith(b"STORED\r\nVALUE") and b"STAT pid" in each for each in said):
            raise LabError(f"memcached answered {[each[:200] for each in said]}")
