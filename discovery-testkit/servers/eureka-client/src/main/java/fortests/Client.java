package fortests;

import com.netflix.appinfo.ApplicationInfoManager;
import com.netflix.appinfo.InstanceInfo;
import com.netflix.discovery.EurekaClient;
import com.netflix.discovery.shared.Application;
import java.util.List;
import java.util.Map;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PutMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/** A service as Spring Boot users write it: it registers itself, and tells over HTTP what it sees of others. */
@SpringBootApplication
@RestController
public class Client {
    private final EurekaClient eureka;
    private final ApplicationInfoManager own;

    public Client(EurekaClient eureka, ApplicationInfoManager own) {
        this.eureka = eureka;
        this.own = own;
    }

    public static void main(String[] args) {
        SpringApplication.run(Client.class, args);
    }

    /** What its own view of the registry holds of an application, instances of any status. */
    @GetMapping("/instances")
    public List<Map<String, Object>> instances(@RequestParam("app") String app) {
        Application found = eureka.getApplication(app);
        return found == null ? List.of() : found.getInstancesAsIsFromEureka().stream().map(Client::told).toList();
    }

    /** Changes its own status, as an operator of the service would. */
    @PutMapping("/status")
    public void status(@RequestParam("value") InstanceInfo.InstanceStatus value) {
        own.setInstanceStatus(value);
    }

    private static Map<String, Object> told(InstanceInfo one) {
        return Map.of(
                "instanceId", one.getInstanceId(),
                "hostName", one.getHostName(),
                "ipAddr", one.getIPAddr(),
                "port", one.getPort(),
                "portEnabled", one.isPortEnabled(InstanceInfo.PortType.UNSECURE),
                "securePort", one.getSecurePort(),
                "securePortEnabled", one.isPortEnabled(InstanceInfo.PortType.SECURE),
                "vipAddress", String.valueOf(one.getVIPAddress()),
                "status", one.getStatus().toString(),
                "metadata", one.getMetadata());
    }
}
