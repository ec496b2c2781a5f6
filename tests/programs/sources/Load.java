import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Serves HTTP, asks itself from several threads, uses temporary files and a child process: Load DIRECTORY. */
class Load {
    public static void main(String[] arguments) throws Exception {
        Path directory = Path.of(arguments[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), 0), 0);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            byte[] body = work(directory).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        HttpClient client = HttpClient.newHttpClient();
        URI address = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/");
        List<Future<String>> answers = new ArrayList<>();
        var threads = Executors.newFixedThreadPool(8);
        for (int i = 0; i < 24; i++) {
            HttpRequest request = HttpRequest.newBuilder(address).build();
            answers.add(threads.submit(() -> client.send(request, HttpResponse.BodyHandlers.ofString()).body()));
        }
        int right = 0;
        for (Future<String> answer : answers)
            right += answer.get().equals("content") ? 1 : 0;
        Process child = new ProcessBuilder("/usr/bin/id", "-u").start();
        String user = new String(child.getInputStream().readAllBytes()).trim();
        System.gc();
        System.out.println("answers " + right + " child " + child.waitFor() + " user " + user);
        System.exit(0);
    }

    static String work(Path directory) throws IOException {
        Path file = Files.createTempFile(directory, "load", ".tmp");
        Files.writeString(file, "content");
        byte[] waste = new byte[1 << 20];
        String text = Files.readString(file) + (waste[7] == 0 ? "" : "?");
        Files.delete(file);
        return text;
    }
}
