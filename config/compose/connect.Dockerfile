# Kafka Connect with Debezium's connector for PostgreSQL: the jars that the tests of the pipeline run, by the same pom.xml.

FROM maven:3.9-eclipse-temurin-17 AS jars
COPY tests/pipeline/pom.xml /pipeline/pom.xml
COPY tests/pipeline/plugin /pipeline/plugin
RUN --mount=type=cache,target=/root/.m2 \
    mvn --batch-mode --quiet --file /pipeline/pom.xml process-resources -Dinto=/connect

FROM eclipse-temurin:17-jre
COPY --from=jars /connect/kafka /opt/connect/kafka
COPY --from=jars /connect/plugins /opt/connect/plugins
COPY config/compose/connect.properties /etc/connect/connect.properties
USER 10001:10001
EXPOSE 8083
# Java itself looks for what the star stands for.
ENTRYPOINT ["java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", "/opt/connect/kafka/*"]
CMD ["org.apache.kafka.connect.cli.ConnectDistributed", "/etc/connect/connect.properties"]
