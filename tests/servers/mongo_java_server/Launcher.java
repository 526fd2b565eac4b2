import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.util.List;

public final class Launcher {
    /** The driver wants MongoDB 4.4 at least; the server calls itself 5.0 but announces 4.2's wire. */
    private static final MongoVersion ANNOUNCED = new MongoVersion() {
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        public int getWireVersion() {
            return 13;
        }
    };

    /**
     * Answers with documents as they were when the command was done. The server's own answers hold the
     * stored documents themselves, which are written to the wire later: an update in between was seen
     * half, or ended the answer and its connection with a ConcurrentModificationException.
     */
    private static final class Backend extends MemoryBackend {
        @Override
        public synchronized Document handleMessage(MongoMessage message) {
            return super.handleMessage(message).cloneDeeply();
        }
    }

    public static void main(String[] arguments) throws Exception {
        MongoServer server = new MongoServer(new Backend().version(ANNOUNCED));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
        Thread.currentThread().join();
    }
}
